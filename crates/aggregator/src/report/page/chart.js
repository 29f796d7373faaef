// The time line: stacked bars with uPlot, zoomed by dragging; its numbers as text and as a table.

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

// `3 Oct`, and between days `05:00`.
function tickText(time, apart) {
  const date = new Date(time * 1000);
  const isDay = apart >= 24 * HOUR || date.getUTCHours() === 0;
  return isDay ? `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}` : date.toISOString().slice(11, 16);
}

// From the bottom of each bar to its top.
const STACK = ['human', 'ai', 'bot', 'unknown', 'empty'];
// Above this, an hour is less than two pixels wide: bars are days.
const HOURS_MAX = 10 * 24;

function stepOf(state) {
  return state.to - state.from <= HOURS_MAX ? 1 : 24;
}

function makeChart({ section, model, state, zoomTo }) {
  const host = section.querySelector('#chart');
  const pointed = section.querySelector('#pointed');
  const legend = section.querySelector('#legend');
  const numbers = section.querySelector('#numbers');
  let line = { times: [], groups: {} };
  let step = 1;
  let drawn = null;

  const timeText = (time) => {
    const iso = new Date(time * 1000).toISOString();
    return step === 24 ? iso.slice(0, 10) : `${iso.slice(0, 10)} ${iso.slice(11, 16)}`;
  };
  const shown = () => STACK.filter((group) => line.groups[group].some((count) => count > 0));
  const sumAt = (i) => STACK.reduce((sum, group) => sum + line.groups[group][i], 0);
  const describe = (i) => {
    const parts = shown().map((group) => `${GROUPS[group]} ${NUMBER.format(line.groups[group][i])}`);
    return `${timeText(line.times[i])}: ${NUMBER.format(sumAt(i))} (${parts.join(', ') || 'none'})`;
  };

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const groups = shown();
    // Each band is drawn from zero to the sum up to it, the highest first.
    const sums = [];
    groups.forEach((group, at) => {
      sums.push(Float64Array.from(line.groups[group], (count, i) => count + (at ? sums[at - 1][i] : 0)));
    });
    const axis = { stroke: color('muted'), grid: { stroke: color('line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    const end = line.times.length ? line.times[0] + line.times.length * step * HOUR : 1;
    const options = {
      width: Math.max(200, host.clientWidth),
      height: 290,
      tzDate: (time) => uPlot.tzDate(new Date(time * 1000), 'Etc/UTC'),
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      scales: {
        x: { time: true, range: [line.times[0] ?? 0, end] },
        y: { range: (_, low, high) => [0, (high || 1) * 1.05] },
      },
      axes: [{ ...axis, size: 28, values: (_, ticks, at, space, apart) => ticks.map((tick) => tickText(tick, apart)) }, { ...axis, size: 44, values: (_, ticks) => ticks.map((tick) => COMPACT.format(tick)) }],
      series: [
        {},
        ...groups.map((group) => ({ fill: color(group), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.88, Infinity], align: 1 }) })).reverse(),
      ],
      hooks: { setSelect: [select], setCursor: [point] },
    };
    drawn?.destroy();
    drawn = new uPlot(options, [line.times, ...sums.reverse()], host);
  }

  function select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const hour = (pixels) => (plot.posToVal(pixels, 'x') - model.start) / HOUR;
    const [from, to] = [hour(left), hour(left + width)];
    const whole = (value, round) => state.from + round((value - state.from) / step) * step;
    zoomTo(whole(from, Math.floor), whole(to, Math.ceil));
  }

  function point(plot) {
    // The bar under the pointer begins at or before it.
    const time = plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, 'x') : -1;
    const i = Math.floor((time - line.times[0]) / (step * HOUR));
    pointed.textContent = line.times[i] === undefined ? hint() : describe(i);
  }

  const hint = () => `Requests by ${step === 24 ? 'day' : 'hour'}. Drag over the bars to zoom in.`;

  function drawNumbers() {
    const groups = shown();
    const head = ['Time', 'Requests', ...groups.map((group) => GROUPS[group])];
    const rows = line.times.map((time, i) => {
      const counts = [sumAt(i), ...groups.map((group) => line.groups[group][i])];
      const cells = counts.map((count) => element('td', { className: 'number', textContent: NUMBER.format(count) }));
      return element('tr', {}, element('th', { scope: 'row', textContent: timeText(time) }), ...cells);
    });
    const heads = head.map((text, i) => element('th', { scope: 'col', className: i ? 'number' : '', textContent: text }));
    const caption = element('caption', { className: 'hidden', textContent: hint() });
    numbers
      .querySelector('div')
      .replaceChildren(element('table', {}, caption, element('thead', {}, element('tr', {}, ...heads)), element('tbody', {}, ...rows)));
  }

  numbers.addEventListener('toggle', () => numbers.open && drawNumbers());
  new ResizeObserver(() => drawn && drawn.width !== host.clientWidth && draw()).observe(host);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);

  return {
    show() {
      step = stepOf(state);
      line = timeLine(model, state.filter, state.from, state.to, step);
      const keys = shown().map((group) => element('span', {}, element('i', { className: `dot ${group}` }), GROUPS[group]));
      legend.replaceChildren(...keys);
      let most = 0;
      line.times.forEach((_, i) => {
        if (sumAt(i) > sumAt(most)) most = i;
      });
      const all = line.times.reduce((sum, _, i) => sum + sumAt(i), 0);
      host.setAttribute('aria-label', `${NUMBER.format(all)} requests from ${timeText(line.times[0])} on; most in ${describe(most)}. All numbers are in the table below.`);
      pointed.textContent = hint();
      draw();
      if (numbers.open) drawNumbers();
    },
    csv() {
      const columns = [
        { key: 'time', value: (i) => new Date(line.times[i] * 1000).toISOString() },
        { key: 'requests', value: sumAt },
        ...STACK.map((group) => ({ key: group, value: (i) => line.groups[group][i] })),
      ];
      return csvOf(columns, line.times.map((_, i) => i));
    },
  };
}
