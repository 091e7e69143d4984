// The live tail: the latest events, as the exact text that was stored.

import { follow } from './api.js';
import { $, bytes, count, foreign, h, moment, say, timeOfDay } from './dom.js';

const SHOWN = 300;
// A stream that is silent for three heartbeats is dead.
const SILENCE = 15_000;
const RETRY_FIRST = 500;
const RETRY_LONGEST = 10_000;

const log = $('log');
let types = [];
let text = '';
let paused = false;
let held = [];
let last = 0n;
let seen = 0;
let stream = null;
let pause = RETRY_FIRST;
let retry = 0;

export function openTail() {
  if (stream || document.hidden) return;
  const opened = new AbortController();
  stream = opened;
  let watch = 0;
  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => opened.abort(), SILENCE);
  };
  const path = types.length ? `tail?types=${encodeURIComponent(types.join(','))}` : 'tail';
  let ended = '';
  const heard = (name, data) => {
    alive();
    if (name === 'events') take(data);
    if (name === 'started') {
      pause = RETRY_FIRST;
      note();
    }
    if (name === 'unreadable') add([notice(`Event ${data[0]} cannot be shown: ${data[1]}.`)]);
    if (name === 'ending') ended = 'The service is shutting down; coming back when it does.';
    if (name === 'failed') ended = `Interrupted: ${data.message}.`;
  };
  alive();
  follow(path, heard, opened.signal)
    .catch((failure) => (ended ||= `Interrupted: ${failure.message}.`))
    .finally(() => {
      clearTimeout(watch);
      // Closed on purpose, or opened anew meanwhile.
      if (stream !== opened) return;
      stream = null;
      note(ended || 'Interrupted; coming back.');
      retry = setTimeout(openTail, pause * (0.5 + Math.random() / 2));
      pause = Math.min(pause * 2, RETRY_LONGEST);
    });
}

export function closeTail() {
  clearTimeout(retry);
  const open = stream;
  stream = null;
  open?.abort();
}

function take({ events, skipped }) {
  // A stream that was opened anew begins a little before its end.
  const fresh = events.filter((event) => BigInt(event.id) > last);
  if (fresh.length) last = BigInt(fresh.at(-1).id);
  seen += fresh.length;
  const made = fresh.map(row);
  if (skipped > 0) made.unshift(notice(`${count(skipped)} ${skipped === 1 ? 'event' : 'events'} came faster than can be shown`));
  if (paused) {
    held.push(...made);
    held.splice(0, held.length - SHOWN);
  } else add(made);
  note();
}

// The latest first. What somebody reads further down stays where it is.
function add(made) {
  const page = document.createDocumentFragment();
  page.append(...made.reverse());
  log.prepend(page);
  while (log.children.length > SHOWN) log.lastElementChild.remove();
}

function row(event) {
  const cut = event.bytes > new TextEncoder().encode(event.data).length;
  const whole = cut ? h('p', { class: 'muted' }, `The first part of ${bytes(event.bytes)}.`) : null;
  const time = event.time === null ? '–' : timeOfDay(event.time);
  const element = h('li', {}, h('details', {},
    h('summary', {},
      h('time', { title: event.time === null ? '' : moment(event.time) }, time),
      h('span', { class: 'id' }, event.id),
      h('span', { class: 'type' }, foreign(event.type)),
      h('span', { class: 'data' }, foreign(event.data.slice(0, 300)))),
    h('pre', { dir: 'ltr' }, foreign(event.data)), whole));
  element.searched = `${event.id} ${event.type} ${event.data}`.toLowerCase();
  element.hidden = !element.searched.includes(text);
  return element;
}

const notice = (said) => h('li', { class: 'gap' }, said);

function note(trouble = '') {
  const all = types.length ? `Following ${types.join(', ')}` : 'Following all types';
  const matching = text ? `, ${count(log.querySelectorAll('li:not([hidden]):not(.gap)').length)} with that text` : '';
  const waiting = paused ? ` Paused: ${count(held.length)} wait.` : '';
  say($('tail-note'), trouble || `${all}: ${count(seen)} seen${matching}.${waiting}`);
}

$('pause').addEventListener('click', () => {
  paused = !paused;
  $('pause').setAttribute('aria-pressed', paused);
  if (!paused) add(held.splice(0));
  note();
});

$('clear').addEventListener('click', () => {
  log.replaceChildren();
  held = [];
  seen = 0;
  note();
});

$('text').addEventListener('input', () => {
  text = $('text').value.trim().toLowerCase();
  for (const element of log.children) element.hidden = !(element.searched ?? text).includes(text);
  note();
});

$('filters').addEventListener('submit', (event) => {
  event.preventDefault();
  const wanted = $('types').value.toUpperCase().split(/[\s,]+/).filter(Boolean);
  const wrong = wanted.find((type) => !/^[A-Z_]{1,16}$/.test(type));
  say($('types-error'), wrong ? `${wrong} is no type: 1 to 16 letters A to Z and _.` : '');
  $('types').setAttribute('aria-invalid', Boolean(wrong));
  if (wrong) return;
  $('types').value = wanted.join(', ');
  types = wanted;
  log.replaceChildren();
  [held, seen, last] = [[], 0, 0n];
  closeTail();
  openTail();
});

document.addEventListener('visibilitychange', () => {
  if (document.hidden) closeTail();
  else if (!$('console').hidden) openTail();
});

