// The page: asks how the stream stands, and shows it until the next answer.

import { call, credentials } from './api.js';
import { Chart } from './chart.js';
import { showConsumers } from './consumers.js';
import { $, age, bytes, compact, count, foreign, h, rate, say } from './dom.js';
import { History } from './history.js';
import { closeTail, openTail } from './tail.js';

const STATE_PERIOD = 2000;
const HISTORY_PERIOD = 10_000;
const HIDDEN_PERIOD = 30_000;

const history = new History();
const events = new Chart($('chart-events'), { label: 'Events per second by type', stacked: true, format: rate });
const waiting = new Chart($('chart-waiting'), { label: 'IDs waiting behind the frontier', format: compact });
const lag = new Chart($('chart-lag'), { label: 'Lag of consumers', format: compact });
let replica = '';

// ------------------------------------------------------------------ figures

function show(state) {
  if (replica && replica !== state.replica) {
    // Another process answers now: it knows another hour.
    history.forget();
    refreshHistory();
  }
  replica = state.replica;
  say($('about'), `${state.database} · ${state.version}`);
  document.title = `${state.problem || state.blockers.length ? '● ' : ''}EventStream`;
  say($('t-frontier'), count(state.frontier));
  say($('t-head'), count(state.head));
  say($('t-waiting'), count(state.waiting));
  say($('n-waiting'), state.held ? `for ${age(state.held.waited)}` : 'nothing is held back');
  $('tile-waiting').className = state.held ? 'warn' : '';
  const [worst] = state.consumers.shown;
  if (!$('search').value.trim()) {
    say($('t-lag'), worst ? count(worst.lag) : '–');
    $('n-lag').replaceChildren(worst ? foreign(`${worst.user}:${worst.component}`) : 'nobody is registered', worst?.lag_age ? `, ${age(worst.lag_age)}` : '');
  }
  showConsumers(state.consumers, state);
  showProblems(state);
  showHolds(state);
  showStorage(state);
}

function showProblems(state) {
  const told = [];
  if (state.problem) told.push(state.problem);
  for (const { user, component, problem } of state.consumers.shown) {
    if (problem) told.push(`${user}:${component} gets nothing: ${problem}`);
  }
  const text = told.join('\n');
  if ($('problems').dataset.told === text) return;
  $('problems').dataset.told = text;
  $('problems').replaceChildren(...told.map((problem) => h('p', { class: 'notice bad' }, foreign(problem))));
}

function showHolds({ held, blockers, database }) {
  const since = held && `It waits for ID ${count(held.id)}, seen for ${age(held.waited)}.`;
  const nobody = 'No open transaction is seen: was an ID inserted that its sequence has not given out?';
  const calm = database === 'sqlite' ? 'Nothing, ever: SQLite has one writer at a time.' : 'Nothing. Every ID that was given out is settled.';
  say($('holds'), held ? `${since} ${blockers.length ? 'These transactions are open:' : nobody}` : calm);
  $('holds').className = held ? 'warn' : 'good';
  $('blockers').hidden = blockers.length === 0;
  const row = ({ session, client, age: open, prepared }) => h('tr', {},
    h('th', { scope: 'row' }, foreign(session)),
    h('td', { class: 'num' }, open ? age(open) : '–'),
    h('td', {}, prepared ? 'prepared' : 'open'),
    h('td', {}, foreign(client)));
  $('blockers').querySelector('tbody').replaceChildren(...blockers.map(row));
}

function showStorage(state) {
  const holder = state.consumers.shown.find(({ holds_oldest }) => holds_oldest);
  const behind = BigInt(state.frontier) - BigInt(state.archived);
  const { archiving, discards, expires } = state.upkeep;
  const archived = state.archived === '0' && archiving === 'nobody' ? 'no archive' : `${count(state.archived)}, ${count(behind < 0n ? 0n : behind)} behind the frontier`;
  const facts = [
    ['Oldest event kept', state.oldest === null ? 'none, the table is empty' : count(state.oldest)],
    ['Kept for', holder ? foreign(`${holder.user}:${holder.component}`) : 'nobody in particular'],
    ['Discarded up to', state.discarded_to === '0' ? 'nothing' : count(state.discarded_to)],
    ['Discarding', discards ? 'on' : 'off in this replica'],
    ['Archived up to', archived],
    ['Archiving', { here: 'on', others: 'by another process', nobody: 'off in this replica' }[archiving]],
    ['Silent consumers', expires ? 'expire by rules' : 'stay registered'],
    ...state.leases.map(({ task, replica: place, here }) => [`${task[0].toUpperCase()}${task.slice(1)} is done by`, foreign(here ? `${place} (this replica)` : place)]),
    ['Open streams here', count(state.open_streams)],
    ['Recent events in memory', bytes(state.ring_bytes)],
  ];
  const text = JSON.stringify(facts.map(([term, fact]) => [term, fact.textContent ?? fact]));
  if ($('storage').dataset.told === text) return;
  $('storage').dataset.told = text;
  $('storage').replaceChildren(...facts.map(([term, fact]) => h('div', {}, h('dt', {}, term), h('dd', {}, fact))));
}

// ------------------------------------------------------------------- charts

function draw() {
  const measure = document.querySelector('[name=measure]:checked').value;
  events.show(history.byType(measure), measure === 'bytes' ? bytes : rate);
  waiting.show(history.waiting());
  const by = document.querySelector('[name=lag]:checked').value;
  lag.show(history.lags(by), by === 'age' ? (seconds) => (seconds ? age(seconds * 1000) : '0') : compact);
  const now = history.lastRate();
  say($('t-rate'), now === null ? '–' : rate(now));
  say($('n-rate'), now === null ? 'not observed yet' : 'in the last minute');
}

// --------------------------------------------------------------- connection

function linked(state, text) {
  $('link').dataset.state = state;
  say($('link-text'), text);
}

// One call at a time of each kind; what was asked for meanwhile comes after it.
function caller(ask, period) {
  let timer = 0;
  let running = false;
  let again = false;
  return async function run() {
    clearTimeout(timer);
    again = running;
    if (running) return;
    running = true;
    const fine = await ask();
    running = false;
    if (again) run();
    else if (fine) timer = setTimeout(run, period());
  };
}

let failures = 0;

const refresh = caller(async () => {
  const search = $('search').value.trim();
  try {
    const state = await call(`state${search ? `?search=${encodeURIComponent(search)}` : ''}`);
    admit(true);
    show(state);
    failures = 0;
    linked('live', 'Live');
    document.body.classList.remove('stale');
  } catch (failure) {
    if (failure.status === 401 || failure.status === 403) {
      admit(false, failure.status === 403 || credentials.get() ? failure.message : '');
      return false;
    }
    failures += 1;
    document.body.classList.add('stale');
    linked('lost', `Not live: ${failure.message}. Trying again.`);
  }
  return true;
}, () => (document.hidden ? HIDDEN_PERIOD : STATE_PERIOD * Math.min(1 + failures / 2, 3)));

const refreshHistory = caller(async () => {
  try {
    history.take(await call(`history?since=${history.since}`));
    draw();
  } catch (failure) {
    // The state says what is wrong.
    if (failure.status === 401) return false;
  }
  return true;
}, () => (document.hidden ? HIDDEN_PERIOD : failures ? STATE_PERIOD : HISTORY_PERIOD));

// Shows the console, or asks who is there.
function admit(known, message = '') {
  if ($('console').hidden !== known && known) return;
  $('console').hidden = !known;
  $('footer').hidden = !known;
  $('sign-in').hidden = known;
  $('leave').hidden = !known || !credentials.get();
  if (known) {
    openTail();
    refreshHistory();
    return;
  }
  closeTail();
  linked('waiting', 'Signed out');
  say($('sign-in-error'), message);
  $('token').focus();
}

// ----------------------------------------------------------------- controls

$('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  credentials.set($('token').value.trim());
  $('token').value = '';
  refresh();
});

$('leave').addEventListener('click', () => {
  credentials.forget();
  location.reload();
});

const theme = $('theme');
try {
  theme.value = localStorage.getItem('eventstream-theme') ?? '';
} catch {
  // Without a memory the system's choice it is.
}
const dress = () => (document.documentElement.dataset.theme = theme.value);
theme.addEventListener('change', () => {
  localStorage.setItem('eventstream-theme', theme.value);
  dress();
});
dress();

let typing = 0;
$('search').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(refresh, 200);
});

for (const choice of document.querySelectorAll('[name=measure], [name=lag]')) choice.addEventListener('change', draw);
document.addEventListener('acted', refresh);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  refresh();
  refreshHistory();
});

let fading = 0;
new MutationObserver(() => {
  clearTimeout(fading);
  fading = setTimeout(() => say($('said'), ''), 8000);
}).observe($('said'), { childList: true });

refresh();
