// The last hour as the service told it, made into series for the charts.

const HOUR = 3_600_000;
const SHOWN = 7;

export class History {
  slots = new Map();
  step = 10_000;
  end = 0;
  #colours = new Map();

  // From when on slots are to be asked for: the last one is still growing.
  get since() {
    return Math.max(0, ...this.slots.keys());
  }

  take({ now, step, slots }) {
    this.step = step;
    this.end = Math.floor(now / step) * step;
    for (const slot of slots) this.slots.set(slot.at, slot);
    for (const at of this.slots.keys()) {
      if (at <= this.end - HOUR || at > this.end) this.slots.delete(at);
    }
  }

  forget() {
    this.slots.clear();
  }

  // Beginnings of all slots of the hour, but for the one that is not over.
  times() {
    const count = HOUR / this.step - 1;
    return Array.from({ length: count }, (_, index) => this.end - (count - index) * this.step);
  }

  // Per second, by type: the most frequent ones, and the rest together.
  byType(measure) {
    const column = measure === 'bytes' ? 2 : 1;
    const seconds = this.step / 1000;
    const times = this.times();
    const totals = new Map();
    for (const at of times) {
      for (const entry of this.slots.get(at)?.counts ?? []) {
        totals.set(entry[0], (totals.get(entry[0]) ?? 0) + entry[column]);
      }
    }
    const names = [...totals].sort((a, b) => b[1] - a[1]).slice(0, SHOWN).map(([name]) => name).sort();
    const series = names.map((name) => ({ name, colour: this.#colour(`type ${name}`), values: [] }));
    const other = { name: 'other types', colour: SHOWN, values: [] };
    const known = [];
    for (const at of times) {
      const slot = this.slots.get(at);
      const seen = Boolean(slot && (slot.watched || slot.counts.length > 0 || slot.missed > 0));
      known.push(seen);
      let rest = slot ? slot.other[column - 1] + (column === 1 ? slot.missed : 0) : 0;
      const counts = new Map((slot?.counts ?? []).map((entry) => [entry[0], entry[column]]));
      for (const { name, values } of series) {
        values.push(seen ? (counts.get(name) ?? 0) / seconds : null);
        counts.delete(name);
      }
      for (const value of counts.values()) rest += value;
      other.values.push(seen ? rest / seconds : null);
    }
    if (series.length === 0 || other.values.some((value) => value > 0)) series.push(other);
    return { times, series, known };
  }

  // Events per second in the last minute, as far as it was observed.
  lastRate() {
    const slots = this.times().slice(-6).map((at) => this.slots.get(at)).filter((slot) => slot?.watched);
    if (slots.length === 0) return null;
    const events = (slot) => slot.counts.reduce((sum, entry) => sum + entry[1], slot.other[0] + slot.missed);
    return slots.reduce((sum, slot) => sum + events(slot), 0) / (slots.length * this.step / 1000);
  }

  waiting() {
    const times = this.times();
    const values = times.map((at) => this.slots.get(at)?.waiting ?? null).map((ids) => ids && Number(ids));
    return { times, series: [{ name: 'IDs waiting', colour: 1, values }], known: bridged(values.map((value) => value !== null)) };
  }

  // The consumers that are furthest behind now, or were last.
  lags(measure) {
    const times = this.times();
    const value = (lag) => (measure === 'age' ? (lag[2] ?? 0) / 1000 : Number(lag[1]));
    const [latest, worst] = [new Map(), new Map()];
    for (const at of times) {
      for (const lag of this.slots.get(at)?.lags ?? []) {
        latest.set(lag[0], value(lag));
        worst.set(lag[0], Math.max(value(lag), worst.get(lag[0]) ?? 0));
      }
    }
    // Who was never behind is no line along the axis.
    const names = [...latest].filter(([name]) => worst.get(name) > 0).sort((a, b) => b[1] - a[1]).slice(0, SHOWN).map(([name]) => name).sort();
    const series = names.map((name) => {
      const values = times.map((at) => {
        const lags = this.slots.get(at)?.lags;
        const lag = lags?.find((entry) => entry[0] === name);
        return lag ? value(lag) : null;
      });
      return { name, colour: this.#colour(`consumer ${name}`), values };
    });
    return { times, series, known: bridged(times.map((at) => Boolean(this.slots.get(at)?.lags))) };
  }

  // A name keeps its colour as long as the page is open and there are enough.
  #colour(key) {
    if (!this.#colours.has(key)) {
      const kind = key.slice(0, 4);
      const taken = [...this.#colours.keys()].filter((other) => other.startsWith(kind)).length;
      this.#colours.set(key, taken % SHOWN);
    }
    return this.#colours.get(key);
  }
}

// A sample in each minute is enough: what lies between two is known.
function bridged(known) {
  let last = -Infinity;
  known.forEach((is, at) => {
    if (!is) return;
    if (at - last <= 7) known.fill(true, last, at);
    last = at;
  });
  return known;
}
