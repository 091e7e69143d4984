// The pictures of the README: a shop on PostgreSQL, with consumers at work and
// behind, and a transaction that somebody has forgotten to end.
//
// All of it is the running service, except for the part of the charts that lies
// before its start: nobody waits an hour for a picture, so that is invented here.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

import { given, holdOpen, launch, openPage, Service } from './service.js';

const run = promisify(execFile);
const target = process.argv[2] ?? '.';
const TYPES = [
  ['ORDER_NEW', 34, (n) => ({ order: 481_200 + n, customer: 9007199254740993n + BigInt(n % 40), total: '129.90', items: [{ sku: 'TEA-EARL-GREY', qty: 2 }] })],
  ['ORDER_PAID', 30, (n) => ({ order: 481_190 + n, method: 'card', amount: '129.90', currency: 'EUR' })],
  ['ORDER_SHIPPED', 22, (n) => ({ order: 481_020 + n, carrier: 'DHL', parcels: 1 })],
  ['STOCK_CHANGE', 60, (n) => ({ sku: ['TEA-EARL-GREY', 'CUP-BLUE', 'POT-1L'][n % 3], by: -2, left: 340 - (n % 300) })],
  ['CART_UPDATE', 45, (n) => ({ cart: `c-${7000 + (n % 900)}`, lines: 1 + (n % 4) })],
  ['MAIL_SENT', 18, (n) => ({ to: 'customer', template: 'order-confirmation', order: 481_180 + n })],
  ['USER_NEW', 6, (n) => ({ user: 20_100 + n, locale: ['de', 'fr', 'he', 'ja'][n % 4] })],
];

const json = (value) => JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? `#${part}#` : part)).replace(/"#(\d+)#"/g, '$1');
const ends = [];
const FIRST = 481_201;

// Always the same, and looks like a working day.
function invented(now, step) {
  const slots = [];
  let seed = 7;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const end = Math.floor(now / step) * step;
  for (let at = end - 3_600_000 + step; at <= end; at += step) {
    const minute = (at - end) / 60_000;
    if (minute > -47 && minute < -44) continue;
    const wave = 1 + 0.35 * Math.sin(minute / 7) + 0.15 * Math.sin(minute / 1.7);
    const burst = minute > -24 && minute < -19 ? 1.9 : 1;
    const counts = TYPES.map(([type, weight]) => {
      const events = Math.round(weight * wave * (type === 'STOCK_CHANGE' ? burst * burst : burst) * (0.8 + 0.4 * random()));
      return [type, events, events * 90];
    });
    const held = Math.max(0, minute > -21 && minute < -17 ? (minute + 21) * 240 : 0) + random() * 6;
    const climb = (from, rate) => Math.max(0, (minute - from) * rate);
    const lags = [
      ['web:SEARCH', climb(-52, 14) + 40 * random(), 1],
      ['jobs:BILLING', minute < -24 ? 90 * random() : Math.max(0, 700 - (minute + 24) * 45) * (minute > -8 ? 0 : 1) + 60 * random(), 1],
      ['jobs:REPORTS', (minute + 60) % 15 * 42 + 20 * random(), 1],
    ];
    slots.push({
      at, watched: true, counts, other: [0, 0], missed: 0, frontier: null,
      waiting: String(Math.round(held)),
      lags: lags.map(([name, ids]) => [name, String(Math.round(ids)), Math.round(ids) * 300]),
    });
  }
  return slots;
}

async function shop() {
  const url = new URL(given('TEST_POSTGRES_DB'));
  const server = String(url);
  await sql(server, 'CREATE DATABASE tea_shop');
  url.pathname = '/tea_shop';
  const directory = await mkdtemp(join(tmpdir(), 'eventstream-console-'));
  const options = ['--db', String(url), '--archive-url', `sqlite:${join(directory, 'history.db')}`, '--discard-enabled'];
  const service = new Service(directory, options);
  ends.unshift(() => service.remove());
  await service.start();
  await sql(String(url), `ALTER SEQUENCE evt_queue_id_seq RESTART ${FIRST}`);
  return { service, url: String(url) };
}

async function sql(url, text) {
  // Longer than an argument may be.
  const psql = run('psql', [url, '-q']);
  psql.child.stdin.end(`${text};\n`);
  await psql;
}

// As many events, as rows of an INSERT.
function events(count) {
  const rows = Array.from({ length: count }, (_, n) => {
    const [type, , data] = TYPES[(n * 7 + (n % 5)) % TYPES.length];
    const time = `CURRENT_TIMESTAMP AT TIME ZONE 'UTC' - interval '${((count - n) * 0.31).toFixed(2)} s'`;
    return `('${type}', '${json(data(n))}', ${time})`;
  });
  return rows.join(',');
}

async function picture(browser, service, name, options, clip = {}) {
  const page = await openPage(browser, service, { reducedMotion: 'reduce', ...options });
  await page.route('**/api/history*', async (route) => {
    const response = await route.fetch();
    const answer = await response.json();
    // The first slots are those in which everything was put there at once.
    if (route.request().url().endsWith('since=0')) answer.slots = invented(answer.now, answer.step);
    await route.fulfill({ response, json: answer });
  });
  await page.reload();
  await page.locator('#log li').nth(30).waitFor();
  await page.locator('#chart-lag .legend li').nth(2).waitFor();
  await page.locator('#blockers tbody tr').first().waitFor();
  await page.screenshot({ path: join(target, `${name}.png`), fullPage: true, ...clip });
  await page.context().close();
}

try {
  const { service, url } = await shop();
  const add = async (count) => sql(url, `INSERT INTO evt_queue (type, data, ts) VALUES ${events(count)}`);
  await add(2400);
  const consumers = [
    ['local:SHOP', 2400], ['local:MAIL', 2400], ['local:WAREHOUSE', 2400],
    ['web:SEARCH', 1678], ['jobs:BILLING', 2341], ['jobs:REPORTS', 2057],
  ];
  const rows = consumers.map(([ident, position]) => `('${ident}', ${FIRST - 1 + position}, now() - interval '40 days', now() - interval '3 minutes')`);
  await sql(url, `INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time) VALUES ${rows.join(',')}`);
  for (const [component, label] of [['SHOP', 'shop-7c9d4-x2vbn'], ['MAIL', 'mail-5f6b8-qk9zl'], ['WAREHOUSE', 'wms-0']]) {
    const session = service.subscriber(component, label);
    ends.unshift(() => session.end());
  }
  const session = await holdOpen(url, 'billing-nightly');
  ends.unshift(() => session.end());
  await add(23);
  const browser = await launch();
  ends.unshift(() => browser.close());
  await mkdir(target, { recursive: true });
  // So long has it been waiting when the picture is taken.
  await pause(Number(process.env.SECONDS_HELD ?? 12) * 1000);
  await picture(browser, service, 'console-light', { colorScheme: 'light', viewport: { width: 1360, height: 900 } });
  await picture(browser, service, 'console-dark', { colorScheme: 'dark', viewport: { width: 1360, height: 900 } });
  const phone = { colorScheme: 'dark', viewport: { width: 390, height: 844 } };
  await picture(browser, service, 'console-phone', phone, { clip: { x: 0, y: 0, width: 390, height: 1760 } });
} finally {
  for (const end of ends) await end();
}
