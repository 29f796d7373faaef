// Tables that sort, search and are downloaded. Whatever comes from a log goes into the page as
// text alone: `textContent`, never markup.

const ROWS_FIRST = 12;
const ROWS_MORE = 50;

function element(tag, props = {}, ...children) {
  const { data, aria, ...rest } = props;
  const made = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(data ?? {})) made.dataset[name] = value;
  for (const [name, value] of Object.entries(aria ?? {})) made.setAttribute(`aria-${name}`, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const NUMBER = new Intl.NumberFormat('en');
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

const BYTES = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];

function bytesText(bytes) {
  const step = bytes < 1 ? 0 : Math.min(BYTES.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** step;
  return `${step && value < 100 ? value.toFixed(1) : NUMBER.format(Math.round(value))} ${BYTES[step]}`;
}

function msText(ms) {
  if (ms === undefined || ms === null) return '–';
  if (ms >= 9950) return `${NUMBER.format(Math.round(ms / 100) / 10)} s`;
  return `${ms >= 99.5 ? NUMBER.format(Math.round(ms)) : ms.toPrecision(2).replace(/e.*/, '')} ms`;
}

const bytesColumn = { key: 'bytes', label: 'Sent', number: true, wide: true, value: (row) => row.bytes ?? 0, text: (row) => (row.bytes ? bytesText(row.bytes) : '–') };

function percent(part, whole) {
  if (!whole) return '–';
  const value = (100 * part) / whole;
  return value > 0 && value < 0.1 ? '< 0.1 %' : `${value.toFixed(1)} %`;
}

// Growth over the period before: a number to sort by; null where there is none to compare with.
function growth({ now, before }) {
  if (before === null) return null;
  return before === 0 ? Infinity : now / before - 1;
}

function growthText(value) {
  if (value === null) return '–';
  if (value === Infinity) return 'new';
  const rounded = Math.round(value * 100);
  if (rounded === 0) return '± 0 %';
  return `${rounded > 0 ? '▲' : '▼'} ${NUMBER.format(Math.abs(rounded))} %`;
}

function growthCell(row) {
  const value = growth(row);
  const kind = value === null || Math.abs(value) < 0.005 ? 'same' : value > 0 ? 'up' : 'down';
  return element('span', { className: `trend ${kind}`, textContent: growthText(value) });
}

// A line without axes; what it shows stands beside it in words.
function sparkLine(values) {
  const [width, height] = [64, 16];
  const top = Math.max(...values, 1);
  const points = Array.from(values, (value, i) => {
    const x = (i * width) / (values.length - 1);
    return `${x.toFixed(1)},${(height - 1 - (value * (height - 2)) / top).toFixed(1)}`;
  });
  const make = (tag, attributes) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const svg = make('svg', { class: 'spark', width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' });
  svg.append(make('polyline', { points: points.join(' ') }));
  return svg;
}

// Columns that every table of counts ends with. `all` gives what 100 % is.
function countColumns(all) {
  return [
    { key: 'requests', label: 'Requests', number: true, value: (row) => row.now, text: (row) => NUMBER.format(row.now) },
    {
      key: 'share',
      label: 'Share',
      number: true,
      value: (row) => row.now,
      text: (row) => percent(row.now, all()),
      bar: (row) => row.now,
      csv: (row) => (all() ? row.now / all() : 0).toFixed(6),
    },
    {
      key: 'trend',
      label: 'Trend',
      number: true,
      value: (row) => growth(row) ?? -2,
      cell: growthCell,
      csv: (row) => row.before ?? '',
      csvLabel: 'requestsBefore',
    },
  ];
}

// The table of `section`. `columns`: the first one heads its row; `state` keeps order and search,
// `changed` says that they did.
function makeTable({ id, section, title, columns, begin = '-requests', state, changed }) {
  let rows = [];
  let limit = ROWS_FIRST;
  const search = element('input', {
    type: 'search',
    placeholder: 'Search',
    aria: { label: `Search ${title}` },
    value: state.search[id] ?? '',
    oninput: () => {
      state.search[id] = search.value;
      limit = ROWS_FIRST;
      draw();
      changed();
    },
  });
  const save = element('button', {
    type: 'button',
    textContent: 'CSV',
    title: 'Download these rows',
    aria: { label: `Download ${title} as CSV` },
    onclick: () => download(id, csvOf(columns, seen())),
  });
  const heads = columns.map((column) => {
    const button = element('button', { type: 'button', textContent: column.label, onclick: () => sortBy(column) });
    return element('th', { scope: 'col', className: `${column.number ? 'number' : ''} ${column.wide ? 'wide' : ''}` }, button);
  });
  const body = element('tbody');
  const foot = element('p', { className: 'muted note' });
  const more = element('button', {
    type: 'button',
    className: 'more',
    onclick: () => {
      limit += ROWS_MORE;
      draw();
    },
  });
  const caption = element('caption', { className: 'hidden', textContent: title });
  section.append(
    element('div', { className: 'head' }, element('h2', { textContent: title }), element('div', {}, search, save)),
    element('div', { className: 'scroll' }, element('table', {}, caption, element('thead', {}, element('tr', {}, ...heads)), body)),
    more,
    foot,
  );

  function order() {
    for (const asked of [state.sort[id] ?? '', begin]) {
      const column = columns.find(({ key }) => key === asked.replace(/^-/, ''));
      if (column) return { column, down: asked.startsWith('-') };
    }
  }

  function sortBy(column) {
    const now = order();
    const down = now.column === column ? !now.down : Boolean(column.number);
    state.sort[id] = (down ? '-' : '') + column.key;
    draw();
    changed();
  }

  // All rows that the search leaves, in order.
  function seen() {
    const words = (state.search[id] ?? '').toLowerCase();
    const { column, down } = order();
    const texts = columns.filter(({ number }) => !number);
    const hit = (row) => texts.some((one) => String(one.value(row)).toLowerCase().includes(words));
    const compare = (a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      const by = column.number ? x - y || 0 : x < y ? -1 : x > y ? 1 : 0;
      return (down ? -by : by) || b.now - a.now;
    };
    return rows.filter((row) => !words || hit(row)).sort(compare);
  }

  function draw() {
    const list = seen();
    const now = order();
    columns.forEach((column, i) => {
      if (column === now.column) heads[i].setAttribute('aria-sort', now.down ? 'descending' : 'ascending');
      else heads[i].removeAttribute('aria-sort');
    });
    // A bar is as long as its part of the longest.
    const most = columns.map(({ bar }) => (bar ? list.reduce((most, row) => Math.max(most, bar(row)), 1) : 0));
    body.replaceChildren(...list.slice(0, limit).map((row) => line(row, most)));
    if (list.length === 0) {
      const nothing = element('td', { colSpan: columns.length, className: 'muted', textContent: 'Nothing here.' });
      body.append(element('tr', {}, nothing));
    }
    more.hidden = list.length <= limit;
    more.textContent = `Show more (${NUMBER.format(list.length - limit)} left)`;
  }

  function line(row, most) {
    const cells = columns.map((column, i) => {
      const className = `${column.number ? 'number' : 'text'} ${column.wide ? 'wide' : ''}`;
      const cell = element(i === 0 ? 'th' : 'td', { className });
      if (i === 0) cell.scope = 'row';
      if (column.cell) cell.append(column.cell(row));
      else cell.textContent = column.text ? column.text(row) : column.value(row);
      if (column.bar) {
        cell.classList.add('bar');
        cell.style.setProperty('--part', `${((100 * column.bar(row)) / most[i]).toFixed(1)}%`);
      }
      return cell;
    });
    return element('tr', {}, ...cells);
  }

  return {
    // New rows; `note` says what they leave out.
    show(next, note) {
      rows = next;
      search.value = state.search[id] ?? '';
      foot.textContent = note ?? '';
      foot.hidden = !note;
      draw();
    },
  };
}

// A spreadsheet would run a cell that begins like a formula, and these texts are strangers'.
function csvCell(value) {
  const text = String(value);
  const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+$/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function csvOf(columns, rows) {
  const lines = [columns.map((column) => csvCell(column.csvLabel ?? column.key))];
  for (const row of rows) lines.push(columns.map((column) => csvCell((column.csv ?? column.value)(row))));
  return lines.map((cells) => cells.join(',') + '\r\n').join('');
}

function download(name, text) {
  const address = URL.createObjectURL(new Blob(['\ufeff', text], { type: 'text/csv;charset=utf-8' }));
  const site = (document.title.split(' ')[0] || 'report').replace(/[^\w.-]/g, '_');
  element('a', { href: address, download: `${site}-${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
