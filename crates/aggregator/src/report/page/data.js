// What the page knows: the numbers that stand in it, and sums of them. Touches no element.
// The format of the data is told in docs/reports.md.

const HOUR = 3600;
const GROUPS = {
  human: 'People',
  ai: 'AI crawlers',
  bot: 'Other bots',
  unknown: 'Unknown',
  empty: 'No agent',
};
const AI_PURPOSES = new Set(['ai-training', 'ai-search', 'ai-user']);

// Numbers from base64 of varints.
function unpack(text) {
  const bytes = atob(text);
  const numbers = [];
  let number = 0;
  let scale = 1;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes.charCodeAt(i);
    number += (byte & 127) * scale;
    if (byte & 128) {
      scale *= 128;
    } else {
      numbers.push(number);
      number = 0;
      scale = 1;
    }
  }
  return numbers;
}

// Places that grow, each with a count: `{ places, counts }`.
function unpackPairs(text) {
  const packed = unpack(text);
  const places = new Int32Array(packed.length / 2);
  const counts = new Float64Array(packed.length / 2);
  for (let i = 0, place = 0; i < places.length; i++) {
    place += packed[2 * i];
    places[i] = place;
    counts[i] = packed[2 * i + 1];
  }
  return { places, counts };
}

function readModel(data) {
  const start = Date.parse(data.firstDay + 'T00:00:00Z') / 1000;
  const clients = data.clients.map(([name, kind, operator = '', purpose = '']) => ({
    name,
    operator,
    purpose,
    isBot: kind === 'bot',
    group: kind === 'bot' && AI_PURPOSES.has(purpose) ? 'ai' : kind,
  }));
  // A key is a client (or only a group of them, or nothing) and a status class (or nothing).
  const keys = data.keys.map(([of, status]) => {
    const client = clients[of];
    return { client, group: client ? client.group : of === -1 ? null : of, status };
  });
  const readSeries = ([key, text]) => ({ ...keys[key], ...unpackPairs(text) });
  const series = data.hours.map(readSeries).map(({ places: hours, ...rest }) => ({ ...rest, hours }));
  let last = 0;
  let first = data.days * 24;
  for (const { hours } of series) {
    first = Math.min(first, hours[0]);
    last = Math.max(last, hours[hours.length - 1]);
  }
  return {
    site: data.site,
    start,
    clients,
    keys,
    series,
    // By days.
    bytes: data.bytes.map(readSeries).map(({ places, ...rest }) => ({ ...rest, hours: places.map((day) => day * 24) })),
    durations: data.durations,
    tables: data.tables,
    days: data.days,
    hours: data.days * 24,
    // The first hour with requests, and the one behind the last.
    first: Math.min(first, last),
    end: last + 1,
  };
}

// Whether requests of `key` pass the filter. What a key does not tell does not keep it out.
function passes(filter, key) {
  if (filter.status !== '' && key.status >= 0 && key.status !== Number(filter.status)) return false;
  if (key.group === null) return true;
  if (filter.group === 'bots') {
    if (key.group !== 'ai' && key.group !== 'bot') return false;
  } else if (filter.group && key.group !== filter.group) return false;
  const client = key.client;
  if (!client) return true;
  return (
    (!filter.bot || (client.isBot && client.name === filter.bot)) &&
    (!filter.operator || client.operator === filter.operator) &&
    (!filter.purpose || client.purpose === filter.purpose)
  );
}

// The first place in sorted `list` whose value is not below `value`.
function lowerBound(list, value) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function sumHours({ hours, counts }, from, to) {
  let sum = 0;
  for (let i = lowerBound(hours, from); i < hours.length && hours[i] < to; i++) sum += counts[i];
  return sum;
}

// The range as long as [from, to) that ends where it begins; null where the data do not reach
// back so far.
function rangeBefore(model, from, to) {
  const before = from - (to - from);
  return before < 0 || model.first >= from ? null : before;
}

// Each series that passes, with its requests (or with `of` its bytes) now and before.
function sumSeries(model, filter, from, to, of = model.series) {
  const before = rangeBefore(model, from, to);
  return of
    .filter((series) => passes(filter, series))
    .map((series) => ({
      series,
      now: sumHours(series, from, to),
      before: before === null ? null : sumHours(series, before, from),
    }));
}

// Sums by what `of` says of a series; `undefined` leaves it out.
function groupSums(sums, of) {
  const groups = new Map();
  for (const { series, now, before } of sums) {
    const key = of(series);
    if (key === undefined) continue;
    const group = groups.get(key) ?? { now: 0, before: before === null ? null : 0 };
    group.now += now;
    if (before !== null) group.before += before;
    groups.set(key, group);
  }
  return groups;
}

function total(sums) {
  return groupSums(sums, () => 'all').get('all') ?? { now: 0, before: null };
}

// The whole days that hold a range.
function wholeDays(from, to) {
  return [Math.floor(from / 24), Math.ceil(to / 24)];
}

const QUANTILES = { p50: 0.5, p90: 0.9, p99: 0.99 };

// How long requests took on these days, in ms; within 1 %. null where none says.
function quantiles(model, first, end) {
  const { gamma, shift, days } = model.durations ?? { days: [] };
  const sums = new Map();
  for (let day = first; day < end; day++) {
    const { places, counts } = unpackPairs(days[day] ?? '');
    places.forEach((place, i) => sums.set(place, (sums.get(place) ?? 0) + counts[i]));
  }
  const buckets = [...sums].sort(([a], [b]) => a - b);
  const all = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (all === 0) return null;
  const value = (place) => (place === 0 ? 0 : (2 * gamma ** (place - shift)) / (gamma + 1));
  const found = { requests: all };
  for (const [name, share] of Object.entries(QUANTILES)) {
    let below = 0;
    const [place] = buckets.find(([, count]) => (below += count) >= Math.ceil(share * all));
    found[name] = value(place);
  }
  return found;
}

// Each day of the range that has requests: its requests, bytes and durations.
function sumDays(model, filter, from, to) {
  const [first, end] = wholeDays(from, to);
  const rows = [];
  for (let day = first; day < end; day++) {
    const sum = (of) => total(sumSeries(model, filter, day * 24, day * 24 + 24, of)).now;
    const now = sum(model.series);
    if (now > 0) rows.push({ name: dayText(model, day * 24), now, before: null, bytes: sum(model.bytes), ...quantiles(model, day, day + 1), requests: now });
  }
  return rows;
}

// Requests by group in steps of `step` hours: `{ times, groups: { human: [...] } }`.
function timeLine(model, filter, from, to, step) {
  const length = Math.ceil((to - from) / step);
  const groups = Object.fromEntries(Object.keys(GROUPS).map((name) => [name, new Float64Array(length)]));
  for (const series of model.series) {
    if (!passes(filter, series)) continue;
    const into = groups[series.group];
    const { hours, counts } = series;
    for (let i = lowerBound(hours, from); i < hours.length && hours[i] < to; i++) {
      into[Math.floor((hours[i] - from) / step)] += counts[i];
    }
  }
  const times = Array.from({ length }, (_, i) => model.start + (from + i * step) * HOUR);
  return { times, groups };
}

// What a client's line looks like, in `points` steps.
function shape(list, from, to, points) {
  const line = new Float64Array(points);
  for (const { hours, counts } of list) {
    for (let i = lowerBound(hours, from); i < hours.length && hours[i] < to; i++) {
      line[Math.floor(((hours[i] - from) * points) / (to - from))] += counts[i];
    }
  }
  return line;
}

// Rows of a table that counts by whole days: each name with its requests now and before, and what
// the table does not list.
function sumTable(model, table, filter, from, to) {
  const [first, end] = wholeDays(from, to);
  const before = rangeBefore(model, first * 24, end * 24);
  const open = model.keys.map((key) => passes(filter, key));
  const sums = (start, stop) => {
    const counts = new Float64Array(table.names.length);
    for (let day = start; day < stop; day++) {
      const cells = unpack(table.days[day] ?? '');
      for (let i = 0, name = 0; i < cells.length; ) {
        name += cells[i++];
        if (table.keys) {
          for (const key of table.keys) {
            if (open[key]) counts[name] += cells[i];
            i++;
          }
        } else {
          for (let left = cells[i++]; left > 0; left--) {
            if (open[cells[i]]) counts[name] += cells[i + 1];
            i += 2;
          }
        }
      }
    }
    return counts;
  };
  const missed = new Float64Array(table.names.length);
  for (let day = first; day < end && table.missed; day++) {
    const { places, counts } = unpackPairs(table.missed[day]);
    places.forEach((name, i) => (missed[name] += counts[i]));
  }
  const now = sums(first, end);
  const then = before === null ? null : sums(before / 24, first);
  const rows = [];
  for (let i = 0; i < now.length; i++) {
    const was = then ? then[i] : null;
    // A site that is silent is still to be found.
    if (now[i] > 0 || table.keys) rows.push({ name: table.names[i], about: table.about?.[i], now: now[i], before: was, missed: missed[i] });
  }
  const all = total(sumSeries(model, filter, first * 24, end * 24));
  const listed = rows.reduce((sum, row) => sum + row.now, 0);
  return { rows, all: all.now, rest: all.now - listed, first, end };
}
