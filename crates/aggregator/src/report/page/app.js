// The page: reads the address, shows what it asks for, and writes it back when that changes.

const model = readModel(JSON.parse(document.getElementById('data').textContent));
let state = readState(model, location.hash);
const byId = (id) => document.getElementById(id);
const form = byId('filters');

const PURPOSES = { seo: 'SEO', 'http-library': 'HTTP library' };

// `ai-training` is `AI training`, `monitor` is `Monitor`.
function purposeText(purpose) {
  const words = purpose.replace(/^ai-/, 'AI ').replaceAll('-', ' ');
  return PURPOSES[purpose] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

const STATUS = { 0: 'No status', 1: '1xx', 2: '2xx', 3: '3xx', 4: '4xx', 5: '5xx' };

// ---- the parts -------------------------------------------------------------------------------

let crawlersAll = 0;
let botsAll = 0;
const hasBytes = model.bytes.length > 0;
const botColumns = (all) => {
  const counts = countColumns(all);
  return [
    { key: 'bot', label: 'Bot', value: (row) => row.name, cell: botCell },
    { key: 'operator', label: 'Operator', wide: true, value: (row) => row.operator },
    { key: 'purpose', label: 'Purpose', wide: true, value: (row) => row.purpose, text: (row) => purposeText(row.purpose) },
    ...counts.slice(0, -1),
    ...(hasBytes ? [bytesColumn] : []),
    ...counts.slice(-1),
  ];
};

function botCell(row) {
  const about = [row.operator, purposeText(row.purpose)].filter(Boolean).join(' · ');
  return element('span', {}, element('span', { textContent: row.name }), element('small', { className: 'narrow', textContent: about }));
}

function withLine(columns) {
  const trend = columns[columns.length - 1];
  const cell = (row) => element('span', { className: 'lined' }, sparkLine(row.line), growthCell(row));
  return [...columns.slice(0, -1), { ...trend, cell }];
}

const crawlers = table('crawlers', byId('crawlers'), 'AI crawlers', withLine(botColumns(() => crawlersAll)));
const chart = makeChart({
  section: byId('time'),
  model,
  state: new Proxy({}, { get: (_, name) => state[name] }),
  zoomTo: (from, to) => change(() => setRange(model, state, from, to)),
});

const NAMES = {
  sites: ['Sites', 'Site'],
  paths: ['Paths', 'Path'],
  agents: ['User agents', 'User agent'],
  hosts: ['Referring hosts', 'Host'],
  codes: ['Status codes', 'Status'],
};
const tables = Object.entries(model.tables).map(([id, data]) => {
  const sums = { all: 0 };
  const [title, label] = NAMES[id];
  const first = { key: 'name', label, value: (row) => row.name };
  if (id === 'sites') first.cell = siteCell;
  const columns = [first, ...countColumns(() => sums.all)];
  // Where there were more names than are counted apart.
  if (data.missed) columns.push({ key: 'missed', label: 'Up to … more', number: true, wide: true, value: (row) => row.missed, text: (row) => (row.missed ? NUMBER.format(row.missed) : '–') });
  return { id, data, sums, shown: table(id, panel(title), title, columns) };
});
const dayColumns = [
  { key: 'name', label: 'Day', value: (row) => row.name },
  countColumns(() => 0)[0],
  ...(hasBytes ? [{ ...bytesColumn, wide: false }] : []),
  ...Object.keys(model.durations ? QUANTILES : {}).map((key) => ({ key, label: key, number: true, wide: key !== 'p99', value: (row) => row[key] ?? -1, text: (row) => msText(row[key]), csv: (row) => row[key]?.toPrecision(4) ?? '', csvLabel: `${key}Ms` })),
];
const daily = dayColumns.length > 2 ? table('days', panel('Sent and response times'), 'Sent and response times', dayColumns, '-name') : null;
const bots = model.clients.some(({ isBot }) => isBot) ? table('bots', panel('Bots', 1), 'Bots', botColumns(() => botsAll)) : null;

function panel(title, place) {
  const made = element('section', { className: 'panel', aria: { label: title } });
  const host = byId('tables');
  host.insertBefore(made, host.children[place ?? host.children.length] ?? null);
  return made;
}

function table(id, section, title, columns, begin) {
  const live = new Proxy({}, { get: (_, name) => state[name] });
  return makeTable({ id, section, title, columns, begin, state: live, changed: writeAddress });
}

function siteCell(row) {
  const href = `reports/${encodeURIComponent(row.about)}`;
  return element('a', { href: href + writeState(model, state, true), textContent: row.name });
}

// ---- showing ---------------------------------------------------------------------------------

function rangeText(from, to) {
  const whole = from % 24 === 0 && to % 24 === 0;
  if (!whole) return `${hourText(model, from).replace('T', ' ')}:00 to ${hourText(model, to).replace('T', ' ')}:00`;
  const [first, last] = [dayText(model, from), dayText(model, to - 1)];
  return first === last ? first : `${first} to ${last}`;
}

function spanText(hours) {
  return hours % 24 ? `${hours} h` : hours === 24 ? 'day' : `${hours / 24} days`;
}

function clientRows(sums, sent, belongs) {
  const byClient = (of) => groupSums(of, ({ client }) => (client && belongs(client) ? client : undefined));
  const bytes = byClient(sent);
  const rows = [];
  for (const [client, { now, before }] of byClient(sums)) if (now > 0) rows.push({ ...client, now, before, bytes: bytes.get(client)?.now ?? 0, of: client });
  return rows;
}

// The whole days of the range, where these are not the range itself.
function daysNote(what) {
  const [first, end] = wholeDays(state.from, state.to);
  const same = first * 24 === state.from && end * 24 === state.to;
  return same ? '' : `${what} by whole days: ${rangeText(first * 24, end * 24)}.`;
}

function show() {
  const { from, to, filter } = state;
  const sums = sumSeries(model, filter, from, to);
  const all = total(sums);
  showForm();
  byId('range').textContent = `${rangeText(from, to)} · data up to ${hourText(model, model.end).replace('T', ' ')}:00 UTC`;
  const [first, end] = wholeDays(from, to);
  const sent = sumSeries(model, filter, first * 24, end * 24, model.bytes);
  showTotals(sums, all, total(sent), quantiles(model, first, end));

  const points = Math.min(32, Math.max(2, to - from));
  const ai = clientRows(sums, sent, ({ group }) => group === 'ai');
  for (const row of ai) {
    row.line = shape(sums.filter(({ series }) => series.client === row.of).map(({ series }) => series), from, to, points);
  }
  crawlersAll = all.now;
  const noted = rangeBefore(model, from, to) === null ? 'No trend: there is nothing as long before this range.' : `Trend: against the ${spanText(to - from)} before. Share: of all requests shown.`;
  const sentNote = hasBytes ? daysNote('Sent') : '';
  crawlers.show(ai, `${noted} ${sentNote}`.trim());
  botsAll = all.now;
  bots?.show(clientRows(sums, sent, ({ isBot }) => isBot), sentNote);
  const narrowed = Object.values(filter).some(Boolean);
  daily?.show(sumDays(model, filter, from, to), [daysNote('Counted'), narrowed && model.durations ? 'Response times are those of all requests.' : ''].filter(Boolean).join(' '));
  chart.show();
  for (const one of tables) {
    const found = sumTable(model, one.data, filter, from, to);
    one.sums.all = found.all;
    one.shown.show(found.rows, tableNote(one.data, found));
  }
  byId('said').textContent = `${NUMBER.format(all.now)} requests from ${rangeText(from, to)}`;
}

function tableNote(data, { rest }) {
  const { filter } = state;
  const notes = [daysNote('Counted')];
  const ofBots = ['purpose', 'operator', 'bot'].some((name) => filter[name]);
  const blind = [];
  if ((filter.group && !data.by.includes('group')) || (ofBots && !data.by.includes('client'))) blind.push('client');
  if (filter.status && !data.by.includes('status')) blind.push('status');
  if (blind.length) notes.push(`Not split by ${blind.join(' and ')}: shown are all requests.`);
  else if (rest > 0) notes.push(`${NUMBER.format(rest)} more requests ${data.rest}.`);
  return notes.filter(Boolean).join(' ');
}

function showTotals(sums, all, sent, durations) {
  const of = (belongs) => total(sums.filter(({ series }) => belongs(series)));
  const cards = [
    ['Requests', all],
    ['People', of(({ group }) => group === 'human')],
    ['AI crawlers', of(({ group }) => group === 'ai')],
    ['Other bots', of(({ group }) => group === 'bot')],
    ['Client errors', of(({ status }) => status === 4)],
    ['Server errors', of(({ status }) => status === 5)],
  ];
  const card = ([label, sum], i) => {
    const share = i === 0 ? '' : percent(sum.now, all.now);
    return totalCard(label, NUMBER.format(sum.now), NUMBER.format(sum.now), share, ' ', trend(sum));
  };
  const trend = (sum) => growthCell(all.before === null ? { now: sum.now, before: null } : { now: sum.now, before: sum.before ?? 0 });
  const more = [];
  if (hasBytes) more.push(totalCard('Sent', bytesText(sent.now), `${NUMBER.format(sent.now)} bytes. ${daysNote('Counted')}`, trend(sent)));
  if (durations) {
    const title = `Half of the requests took no longer. ${daysNote('Counted')} Whoever asked.`;
    more.push(totalCard('Response time', msText(durations.p50), title, `p90 ${msText(durations.p90)}, p99 ${msText(durations.p99)}`));
  }
  byId('totals').replaceChildren(...cards.map(card), ...more);
}

function totalCard(label, text, title, ...below) {
  return element('div', {}, element('dt', { textContent: label }), element('dd', { title, textContent: text }), element('dd', { className: 'muted' }, ...below));
}

// ---- the form --------------------------------------------------------------------------------

const PRESETS = [1, 7, 30, 90];

function buildForm() {
  const requests = groupSums(sumSeries(model, defaultState(model).filter, 0, model.hours), ({ client }) => client);
  const count = (client) => requests.get(client)?.now ?? 0;
  const known = model.clients.filter(({ isBot }) => isBot).sort((a, b) => count(b) - count(a));
  const unique = (of) => [...new Set(known.map(of).filter(Boolean))];
  const statuses = [...new Set(model.series.map(({ status }) => status))].sort();
  options('group', [['', 'All'], ['human', GROUPS.human], ['bots', 'Bots'], ['ai', GROUPS.ai], ['bot', GROUPS.bot], ['unknown', GROUPS.unknown], ['empty', GROUPS.empty]]);
  options('purpose', [['', 'All'], ...unique(({ purpose }) => purpose).map((one) => [one, purposeText(one)])]);
  options('operator', [['', 'All'], ...unique(({ operator }) => operator).map((one) => [one, one])]);
  options('bot', [['', 'All'], ...unique(({ name }) => name).map((one) => [one, one])]);
  options('status', [['', 'All'], ...statuses.map((one) => [String(one), STATUS[one]])]);
  for (const name of FILTERS) form.elements[name].onchange = () => change(() => (state.filter[name] = form.elements[name].value));
  for (const name of ['from', 'to']) {
    const input = form.elements[name];
    input.min = dayText(model, 0);
    input.max = dayText(model, model.hours - 1);
    input.onchange = () => {
      const hour = hourOf(model, input.value, name === 'to');
      if (hour === null) return;
      const [from, to] = name === 'from' ? [hour, Math.max(state.to, hour + 24)] : [Math.min(state.from, hour - 24), hour];
      change(() => setRange(model, state, from, to));
    };
  }
  const end = Math.ceil(model.end / 24) * 24;
  const possible = PRESETS.filter((days, i) => i < 2 || PRESETS[i - 1] * 24 < end - model.first);
  form.querySelector('.presets').append(
    ...possible.map((days) =>
      element('button', {
        type: 'button',
        textContent: days === 1 ? 'Day' : `${days} days`,
        data: { days },
        onclick: () => change(() => setRange(model, state, end - days * 24, end)),
      }),
    ),
  );
  form.onsubmit = (event) => event.preventDefault();
  byId('reset').onclick = () => change(() => (state = defaultState(model)));
}

function options(name, list) {
  form.elements[name].replaceChildren(...list.map(([value, textContent]) => element('option', { value, textContent })));
}

function showForm() {
  for (const name of FILTERS) {
    const select = form.elements[name];
    const value = state.filter[name];
    // A link may ask for what this site has not seen.
    if (![...select.options].some((option) => option.value === value)) select.append(element('option', { value, textContent: value }));
    select.value = value;
    select.classList.toggle('set', value !== '');
  }
  form.elements.from.value = dayText(model, state.from);
  form.elements.to.value = dayText(model, state.to - 1);
  const end = Math.ceil(model.end / 24) * 24;
  for (const button of form.querySelectorAll('[data-days]')) {
    const on = state.to === end && state.from === Math.max(0, end - button.dataset.days * 24);
    button.setAttribute('aria-pressed', String(on));
  }
}

function zoom(how) {
  const { from, to } = state;
  const length = to - from;
  const quarter = Math.max(1, Math.round(length / 4));
  const half = Math.max(1, Math.round(length / 2));
  const shift = (by) => Math.max(-from, Math.min(by, model.hours - to));
  if (how === 'in' && length > 2) change(() => setRange(model, state, from + quarter, to - quarter));
  if (how === 'out') change(() => setRange(model, state, from - half, to + half));
  if (how === 'earlier') change(() => setRange(model, state, from + shift(-half), to + shift(-half)));
  if (how === 'later') change(() => setRange(model, state, from + shift(half), to + shift(half)));
  if (how === 'csv') download('time-line', chart.csv());
}

// ---- the address -----------------------------------------------------------------------------

function writeAddress() {
  history.replaceState(null, '', writeState(model, state, false));
  byId('home').href = '../report.html' + writeState(model, state, true);
}

function change(how) {
  how();
  writeAddress();
  show();
}

addEventListener('hashchange', () => {
  state = readState(model, location.hash);
  show();
});
// A link inside the page would else take the place of the filters.
byId('skip').onclick = (event) => {
  event.preventDefault();
  byId('main').focus();
};
byId('time').onclick = ({ target }) => target.dataset.zoom && zoom(target.dataset.zoom);

const heading = model.site === null ? 'All sites' : model.site || 'Records without a site';
byId('title').textContent = heading;
document.title = `${heading} – Sluice report`;
byId('home').hidden = model.site === null;
byId('foot').textContent = `It holds ${model.days} days; older hours are in the summaries.`;
buildForm();
writeAddress();
show();
document.documentElement.dataset.ready = 'yes';
