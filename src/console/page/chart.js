// Charts of an hour: drawn as SVG, told as a table to whoever prefers that.

import { h, minute, svg, timeOfDay } from './dom.js';

const LEFT = 48;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const MINUTE = 60_000;

export class Chart {
  // `stacked`: areas on each other; else lines. `format` writes a value.
  constructor(home, { label, stacked = false, format }) {
    Object.assign(this, { label, stacked, format, times: [], series: [], known: [] });
    this.plot = svg('svg', { role: 'img', class: 'plot' });
    this.legend = h('ul', { class: 'legend' });
    this.tip = h('div', { class: 'tip', hidden: true, 'aria-hidden': 'true' });
    this.table = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `${label}, table` });
    this.details = h('details', { ontoggle: () => this.#tabulate() }, h('summary', {}, 'As a table'), this.table);
    this.frame = h('div', { class: 'frame' }, this.plot, this.tip);
    home.append(this.frame, this.legend, this.details);
    new ResizeObserver(() => this.#draw()).observe(this.frame);
    this.plot.addEventListener('pointermove', (event) => this.#point(event));
    this.plot.addEventListener('pointerleave', () => this.#point(null));
  }

  show({ times, series, known }, format = this.format) {
    Object.assign(this, { times, series, known, format });
    this.#draw();
    this.#tabulate();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    if (width < 60 || this.times.length === 0) return;
    Object.assign(this, { width, height });
    const sums = this.times.map((_, at) =>
      this.stacked
        ? this.series.reduce((sum, { values }) => sum + (values[at] ?? 0), 0)
        : Math.max(0, ...this.series.map(({ values }) => values[at] ?? 0)));
    this.most = nice(Math.max(...sums));
    this.plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.plot.replaceChildren(...this.#ground(), ...(this.stacked ? this.#areas() : this.#lines()));
    this.plot.setAttribute('aria-label', this.#summary());
    const key = ({ name, colour }) => h('li', { class: 'key', colour }, h('bdi', {}, name));
    this.legend.replaceChildren(...this.series.map(key));
    this.legend.hidden = this.series.length === 0 || (this.series.length === 1 && !this.stacked);
  }

  #x(at) {
    return LEFT + ((at + 0.5) * (this.width - LEFT - RIGHT)) / this.times.length;
  }

  #y(value) {
    return TOP + (this.height - TOP - BOTTOM) * (1 - value / this.most);
  }

  // Axes, and where nobody looked.
  #ground() {
    const drawn = [];
    const bottom = this.#y(0);
    for (const [from, to] of runs(this.times, (at) => !this.known[at])) {
      const x = this.#x(from - 0.5);
      drawn.push(svg('rect', { class: 'unknown', x, y: TOP, width: this.#x(to + 0.5) - x, height: bottom - TOP }));
    }
    const steps = this.height < 160 ? 2 : 4;
    for (let step = 0; step <= steps; step += 1) {
      const value = (this.most * step) / steps;
      const y = this.#y(value);
      drawn.push(svg('line', { class: step ? 'grid' : 'axis', x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }));
      drawn.push(svg('text', { x: LEFT - 6, y: y + 4, 'text-anchor': 'end' }, this.format(value)));
    }
    const every = (this.width < 420 ? 20 : 10) * MINUTE;
    this.times.forEach((time, at) => {
      if (time % every !== 0) return;
      const x = this.#x(at - 0.5);
      drawn.push(svg('line', { class: 'axis', x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
      const inside = x > LEFT + 12 && x < this.width - 20;
      if (inside) drawn.push(svg('text', { x, y: this.height - 4, 'text-anchor': 'middle' }, minute(time)));
    });
    const pattern = svg('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
      svg('line', { class: 'hatch', x1: 0, x2: 0, y1: 0, y2: 6 }));
    return [svg('defs', {}, pattern), ...drawn];
  }

  #areas() {
    const below = this.times.map(() => 0);
    return this.series.map(({ colour, values }) => {
      let path = '';
      for (const [from, to] of runs(this.times, (at) => values[at] !== null)) {
        const [upper, lower] = [[], []];
        for (let at = from; at <= to; at += 1) {
          const before = below[at];
          below[at] += values[at];
          // A run is as wide as its slots.
          const places = [at === from ? at - 0.5 : at, at === to ? at + 0.5 : at];
          for (const place of new Set(places)) {
            lower.unshift(this.#spot(place, before));
            upper.push(this.#spot(place, below[at]));
          }
        }
        path += `M${[...upper, ...lower].join('L')}Z`;
      }
      return svg('path', { class: 'area', colour, d: path });
    });
  }

  #spot(at, value) {
    return `${this.#x(at).toFixed(1)} ${this.#y(value).toFixed(1)}`;
  }

  #lines() {
    return this.series.map(({ colour, values }) => {
      // A sample in each minute is a line, too.
      let path = '';
      let last = -Infinity;
      values.forEach((value, at) => {
        if (!Number.isFinite(value)) return;
        const point = this.#spot(at, value);
        path += at - last > 7 ? `M${point}h0.01` : `L${point}`;
        last = at;
      });
      return svg('path', { class: 'line', colour, d: path });
    });
  }

  #summary() {
    if (!this.known.includes(true)) return `${this.label}: nothing was observed yet`;
    const parts = this.series.map(({ name, values }) => {
      const told = values.filter(Number.isFinite);
      return told.length ? `${name} ${this.format(told.at(-1))}, at most ${this.format(Math.max(...told))}` : '';
    });
    return `${this.label}. ${parts.filter(Boolean).join('; ') || 'Nothing'}.`;
  }

  #point(event) {
    this.plot.querySelector('.cursor')?.remove();
    const box = this.plot.getBoundingClientRect();
    const at = event && Math.floor(((event.clientX - box.left - LEFT) / (this.width - LEFT - RIGHT)) * this.times.length);
    this.tip.hidden = event === null || !(at in this.times);
    if (this.tip.hidden) return;
    const x = this.#x(at);
    this.plot.append(svg('line', { class: 'cursor', x1: x, x2: x, y1: TOP, y2: this.#y(0) }));
    const rows = this.series
      .filter(({ values }) => Number.isFinite(values[at]))
      .map(({ name, colour, values }) => h('li', { class: 'key', colour }, h('bdi', {}, name), h('b', {}, this.format(values[at]))));
    const body = rows.length ? h('ul', {}, ...rows) : h('p', {}, this.known[at] ? 'nothing' : 'not observed');
    this.tip.replaceChildren(h('p', {}, timeOfDay(this.times[at])), body);
    this.tip.style.left = `${Math.min(Math.max(x + 12, 0), this.width - this.tip.offsetWidth)}px`;
    if (x + 12 + this.tip.offsetWidth > this.width) this.tip.style.left = `${Math.max(0, x - 12 - this.tip.offsetWidth)}px`;
  }

  // Minute by minute, the latest first; made when somebody opens it.
  #tabulate() {
    if (!this.details.open) return;
    const step = this.times[1] - this.times[0];
    const head = h('tr', {}, h('th', { scope: 'col' }, 'Minute'), ...this.series.map(({ name }) => h('th', { scope: 'col', class: 'num' }, h('bdi', {}, name))));
    const rows = [];
    for (let end = this.times.length; end > 0; ) {
      const begin = Math.floor(this.times[end - 1] / MINUTE) * MINUTE;
      const from = Math.max(0, end - Math.floor((this.times[end - 1] - begin) / step) - 1);
      const cells = this.series.map(({ values }) => {
        const told = values.slice(from, end).filter(Number.isFinite);
        const mean = told.reduce((sum, value) => sum + value, 0) / told.length;
        return h('td', { class: 'num' }, told.length ? this.format(this.stacked ? mean : told.at(-1)) : '–');
      });
      rows.push(h('tr', {}, h('th', { scope: 'row' }, minute(begin)), ...cells));
      end = from;
    }
    const caption = h('caption', { class: 'hidden' }, this.label);
    this.table.replaceChildren(h('table', {}, caption, h('thead', {}, head), h('tbody', {}, ...rows)));
  }
}

// Runs of slots that are so, as [first, last].
function runs(times, is) {
  const found = [];
  times.forEach((_, at) => {
    if (!is(at)) return;
    const last = found.at(-1);
    if (last && last[1] === at - 1) last[1] = at;
    else found.push([at, at]);
  });
  return found;
}

// A round number at or above the value.
function nice(value) {
  if (!(value > 0)) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  const steps = [1, 2, 4, 6, 8, 10];
  return Math.max(4 * Number.EPSILON, power * steps.find((step) => step * power >= value * 0.999));
}

