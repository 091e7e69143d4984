// The table of consumers, and the two things that can be done to one of them.

import { call } from './api.js';
import { $, age, count, foreign, h, moment, say } from './dom.js';

const rows = new Map();
const name = ({ user, component }) => `${user}:${component}`;

export function showConsumers({ total, connected, found, shown }, state) {
  say($('t-consumers'), count(total));
  say($('n-consumers'), `${count(connected)} connected`);
  const most = shown.length < found ? `The ${count(shown.length)} furthest behind of ${count(found)}.` : '';
  const none = total === 0 ? 'Nobody is registered.' : 'No consumer matches.';
  say($('consumers-note'), found === 0 ? none : most);
  const names = new Set(shown.map(name));
  for (const [key, row] of rows) {
    if (!names.has(key)) {
      row.element.remove();
      rows.delete(key);
    }
  }
  for (const consumer of shown) {
    const key = name(consumer);
    if (!rows.has(key)) {
      rows.set(key, makeRow(consumer));
      $('rows').append(rows.get(key).element);
    }
    fillRow(rows.get(key), consumer, state);
  }
  order(shown);
}

// Nothing moves under a hand or a focus that is there.
function order(shown) {
  const body = $('rows');
  if (body.contains(document.activeElement) || body.matches(':hover')) return;
  shown.forEach((consumer, place) => {
    const { element } = rows.get(name(consumer));
    if (body.children[place] !== element) body.insertBefore(element, body.children[place]);
  });
}

function makeRow(consumer) {
  const row = { consumer };
  const key = name(consumer);
  const cell = (label, props = {}) => h('td', { 'data-label': label, ...props });
  const action = (text, act, kind) =>
    h('button', { type: 'button', class: kind, 'aria-label': `${text} ${key}`, onclick: () => act(row.consumer, row.state) }, `${text}…`);
  row.name = h('th', { scope: 'row' }, foreign(key), h('span', { class: 'badges' }));
  row.lag = cell('Behind', { class: 'num' });
  row.oldest = cell('Oldest missing', { class: 'num' });
  row.position = cell('Position', { class: 'num' });
  row.link = cell('Connection');
  row.life = cell('Last sign of life');
  const actions = h('td', { class: 'actions' }, action('Move', seek, ''), action('Unregister', unregister, 'quiet'));
  row.element = h('tr', {}, row.name, row.lag, row.oldest, row.position, row.link, row.life, actions);
  row.actions = actions;
  return row;
}

function fillRow(row, consumer, state) {
  row.state = state;
  row.actions.hidden = !consumer.governed;
  row.consumer = consumer;
  row.element.className = consumer.problem ? 'blocked' : '';
  const life = consumer.last_time;
  say(row.life, life === null ? 'never' : `${age(Math.max(0, state.now - life))} ago`);
  const now = JSON.stringify(consumer);
  if (now === row.shown) return;
  row.shown = now;
  const badges = [];
  if (consumer.problem) badges.push(h('span', { class: 'badge bad' }, 'stopped'));
  if (consumer.holds_oldest) badges.push(h('span', { class: 'badge warn' }, 'holds the oldest'));
  row.name.querySelector('.badges').replaceChildren(...badges);
  say(row.lag, count(consumer.lag));
  say(row.oldest, consumer.lag_age === null ? '–' : age(consumer.lag_age));
  say(row.position, count(consumer.position));
  const place = consumer.connected ? consumer.label || 'connected' : 'not connected';
  const link = consumer.problem
    ? h('span', { class: 'problem' }, foreign(consumer.problem))
    : h('span', { class: consumer.connected ? 'on' : 'off' }, foreign(place));
  const at = consumer.connected && consumer.replica ? h('span', { class: 'muted small' }, foreign(`at ${consumer.replica}`)) : null;
  row.link.replaceChildren(h('div', {}, link, at));
  row.life.title = life === null ? '' : moment(life);
}

// Opens a dialog; `act` returns what to say, or throws.
function open(dialog, consumer, act) {
  const form = dialog.querySelector('form');
  const error = dialog.querySelector('.error');
  const done = new AbortController();
  say(error, '');
  for (const who of dialog.querySelectorAll('.who')) say(who, name(consumer));
  const { signal } = done;
  dialog.querySelector('.cancel').addEventListener('click', () => dialog.close(), { signal });
  dialog.addEventListener('close', () => done.abort(), { signal });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const buttons = form.querySelectorAll('button');
    buttons.forEach((button) => (button.disabled = true));
    try {
      const said = await act();
      dialog.close();
      say($('said'), said);
      document.dispatchEvent(new Event('acted'));
    } catch (failure) {
      say(error, sentence(failure.message));
    } finally {
      buttons.forEach((button) => (button.disabled = false));
    }
  }, { signal });
  dialog.showModal();
  return signal;
}

const ids = (steps) => `${count(steps)} ${steps === 1n ? 'ID: its event is' : 'IDs: their events are'}`;
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function unregister(consumer) {
  const dialog = $('unregister');
  const { user, component } = consumer;
  say(dialog.querySelector('.name'), component);
  $('unregister-name').value = '';
  open(dialog, consumer, async () => {
    if ($('unregister-name').value.trim() !== component) throw new Error(`type ${component} to confirm`);
    await call('unregister', { user, component });
    return `${name(consumer)} is unregistered.`;
  });
  $('unregister-name').focus();
}

function seek(consumer, state) {
  const dialog = $('seek');
  const { user, component, position } = consumer;
  const id = $('seek-id');
  const chosen = () => dialog.querySelector('[name=to]:checked').value;
  const choose = (value) => (dialog.querySelector(`[name=to][value=${value}]`).checked = true);
  choose('after');
  id.value = position;
  $('seek-time').value = '';
  $('seek-sure').checked = false;
  say($('seek-now'), `It stands at ${count(position)}; the frontier is ${count(state.frontier)}.`);
  const preview = () => {
    const { effect, sure } = foretell(chosen(), wantedId(), position, state.frontier);
    say($('seek-preview'), consumer.connected ? `${effect} Its open session ends and comes back.` : effect);
    say($('seek-sure-text'), sure);
    $('seek-sure').parentElement.hidden = !sure;
  };
  const wantedId = () => id.value.replace(/[\s\u202f,_]/g, '');
  const signal = open(dialog, consumer, async () => {
    if (!$('seek-sure').parentElement.hidden && !$('seek-sure').checked) throw new Error('tick the box to confirm');
    const to = target(chosen(), wantedId(), $('seek-time').value);
    const sought = await call('seek', { consumer: { user, component }, to });
    return `${name(consumer)} stands at ${count(sought.consumer.position)} now.`;
  });
  dialog.addEventListener('input', (event) => {
    if (event.target === id) choose('after');
    if (event.target === $('seek-time')) choose('time');
    if (event.target !== $('seek-sure')) $('seek-sure').checked = false;
    preview();
  }, { signal });
  preview();
  id.focus();
  id.select();
}

// What a move would mean, and what somebody must know who does it.
function foretell(way, wanted, position, frontier) {
  if (way === 'time') {
    const sure = 'I know that events may be delivered again or not at all';
    return { effect: 'Where that is shows when it was moved.', sure };
  }
  if (way === 'after' && !/^\d{1,18}$/.test(wanted)) return { effect: 'An ID has 1 to 18 digits; 0 is before the oldest event.', sure: '' };
  const to = way === 'now' ? BigInt(frontier) : BigInt(wanted);
  const steps = to - BigInt(position);
  if (steps === 0n) return { effect: 'It stands there already.', sure: '' };
  if (steps < 0n) return { effect: `Goes back by ${ids(-steps)} delivered again.`, sure: 'I know that events are delivered again' };
  return { effect: `Passes over ${ids(steps)} not delivered to it.`, sure: 'I know that events are not delivered' };
}

function target(way, id, time) {
  if (way === 'now') return { now: true };
  if (way === 'after') return { after: id };
  const millis = new Date(time).getTime();
  if (Number.isNaN(millis)) throw new Error('give a date and a time');
  return { time: millis };
}
