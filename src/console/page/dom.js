// Elements and texts. Whatever comes from the stream becomes a text node here,
// never markup.

export const $ = (id) => document.getElementById(id);

export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'colour') element.style.setProperty('--c', `var(--c${value})`);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Only if it is another one: screen readers, selections and layout stay calm.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Text of others: its direction must not disorder what stands beside it.
export const foreign = (text) => h('bdi', {}, text);

const digits = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

// Ids and counts, exact to the last digit: a text becomes a BigInt.
export function count(value) {
  const number = typeof value === 'string' ? BigInt(value) : value;
  return digits.format(number).replaceAll(',', '\u202f');
}

export function rate(value) {
  if (value === 0) return '0';
  return value < 10 ? value.toFixed(value < 1 ? 2 : 1) : short.format(value);
}

export const compact = (value) => short.format(value);

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

// An age in milliseconds, in its two greatest units.
export function age(millis) {
  const seconds = Math.floor(millis / 1000);
  if (millis < 1000) return `${Math.round(millis)} ms`;
  const parts = [
    [Math.floor(seconds / 86400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(' ');
}

const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const minutes = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const dated = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });

export const timeOfDay = (millis) => clock.format(millis);
export const minute = (millis) => minutes.format(millis);
export const moment = (millis) => dated.format(millis);
