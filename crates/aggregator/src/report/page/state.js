// What the reader has asked for: range, filters, and each table's order and search. It stands in
// the address behind the #, so that a link carries it.

const FILTERS = ['group', 'purpose', 'operator', 'bot', 'status'];
const DEFAULT_DAYS = 30;

function dayText(model, hour) {
  return new Date((model.start + hour * HOUR) * 1000).toISOString().slice(0, 10);
}

function hourText(model, hour) {
  return new Date((model.start + hour * HOUR) * 1000).toISOString().slice(0, 13);
}

// The hour that `text` (`2026-10-01` or `2026-10-01T05`) begins with; with `end`, the one behind
// it. null where it is neither.
function hourOf(model, text, end) {
  const parts = /^(\d{4}-\d\d-\d\d)(?:T(\d\d))?$/.exec(text ?? '');
  if (!parts) return null;
  const ms = Date.parse(`${parts[1]}T${parts[2] ?? '00'}:00:00Z`);
  if (Number.isNaN(ms)) return null;
  return (ms / 1000 - model.start) / HOUR + (end ? (parts[2] ? 1 : 24) : 0);
}

function defaultState(model) {
  const to = Math.ceil(model.end / 24) * 24;
  const from = Math.max(Math.floor(model.first / 24) * 24, to - DEFAULT_DAYS * 24);
  return { from, to, filter: Object.fromEntries(FILTERS.map((name) => [name, ''])), sort: {}, search: {} };
}

// Keeps the range inside the data and at least an hour long.
function setRange(model, state, from, to) {
  state.from = Math.round(Math.max(0, Math.min(from, model.hours - 1)));
  state.to = Math.round(Math.max(state.from + 1, Math.min(to, model.hours)));
}

function readState(model, hash) {
  const state = defaultState(model);
  const params = new URLSearchParams(hash.replace(/^#/, ''));
  setRange(
    model,
    state,
    hourOf(model, params.get('from'), false) ?? state.from,
    hourOf(model, params.get('to'), true) ?? state.to,
  );
  for (const name of FILTERS) state.filter[name] = params.get(name) ?? '';
  for (const [name, value] of params) {
    const [kind, table] = name.split('.');
    if (table && (kind === 'sort' || kind === 'search')) state[kind][table] = value;
  }
  return state;
}

// Only what differs from the page as it opens.
function writeState(model, state, onlyFilters) {
  const fresh = defaultState(model);
  const params = new URLSearchParams();
  if (state.from !== fresh.from || state.to !== fresh.to) {
    const whole = state.from % 24 === 0 && state.to % 24 === 0;
    const text = whole ? dayText : hourText;
    params.set('from', text(model, state.from));
    params.set('to', text(model, state.to - 1));
  }
  for (const name of FILTERS) if (state.filter[name]) params.set(name, state.filter[name]);
  if (!onlyFilters) {
    for (const kind of ['sort', 'search']) {
      for (const [table, value] of Object.entries(state[kind])) {
        if (value) params.set(`${kind}.${table}`, value);
      }
    }
  }
  return '#' + params.toString();
}
