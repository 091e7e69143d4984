// The console as a person uses it: with a mouse, with a keyboard alone, with a
// screen reader's eyes (axe), through a restart, and with events of somebody
// who means no good.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

import { given, holdOpen, launch, openPage, Service } from './service.js';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// More digits than a browser's number, letters beyond 16 bits, both directions.
const EXACT = '{"n": 9007199254740993, "s": "𝄞 שלום \u202e abc", "z": 1.0}';

let browser;
const services = [];

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const service of services) await service.remove();
});

async function started(options) {
  const service = await Service.open(options);
  services.push(service);
  return service.start();
}

// A page on a service of its own; both have done nothing yet.
async function stage(options) {
  const service = await started();
  return { service, page: await openPage(browser, service, options) };
}

async function fine(page) {
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

const events = (page) => page.locator('#log li:not(.gap)');
const rowOf = (page, name) => page.locator('#rows tr', { hasText: name });

async function violations(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html}\n${failureSummary}`).join('\n')}`);
}

test('tail shows an event to the letter, and the figures follow', async () => {
  const { service, page } = await stage();
  await page.locator('#tail-note', { hasText: 'Following all types' }).waitFor();
  await service.cli('add', 'ORDER_NEW', EXACT);
  await events(page).first().waitFor();
  assert.equal(await events(page).locator('.id').textContent(), '1');
  assert.equal(await events(page).locator('.type').textContent(), 'ORDER_NEW');
  await events(page).locator('summary').click();
  assert.equal(await events(page).locator('pre').textContent(), EXACT);
  await page.locator('#t-frontier', { hasText: /^1$/ }).waitFor();
  await page.locator('#t-head', { hasText: /^1$/ }).waitFor();
  await fine(page);
});

test('ids of 18 digits are exact everywhere', async () => {
  const { service, page } = await stage();
  const id = '900719925474099301';
  await service.sql(`INSERT INTO evt_queue (id, type, data, ts) VALUES (${id}, 'BIG', '1', CURRENT_TIMESTAMP)`);
  await events(page).locator('.id', { hasText: id }).waitFor();
  await page.locator('#t-frontier', { hasText: '900\u202f719\u202f925\u202f474\u202f099\u202f301' }).waitFor();
  await service.cli('consumers', 'register', 'SHOP');
  await rowOf(page, 'local:SHOP').getByRole('button', { name: 'Move local:SHOP' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.locator('#seek-id').fill('900 719 925 474 099 301');
  await dialog.getByText('Passes over 1 ID: its event is not delivered').waitFor();
  await dialog.getByRole('checkbox').check();
  await dialog.getByRole('button', { name: 'Move' }).click();
  await page.locator('#said', { hasText: 'stands at 900\u202f719\u202f925\u202f474\u202f099\u202f301 now' }).waitFor();
  assert.equal((await service.consumer('SHOP')).position, '900719925474099301');
  await fine(page);
});

test('tail is filtered by type and text, paused and cleared', async () => {
  const { service, page } = await stage();
  await page.getByLabel('Types').fill('order new');
  await page.getByLabel('Types').press('Enter');
  await page.locator('#tail-note', { hasText: 'Following ORDER, NEW' }).waitFor();
  await page.getByLabel('Types').fill('ORDER-NEW');
  await page.getByRole('button', { name: 'Apply' }).click();
  await page.locator('#types-error', { hasText: 'ORDER-NEW is no type' }).waitFor();
  await page.getByLabel('Types').fill('ORDER_NEW');
  await page.getByRole('button', { name: 'Apply' }).click();
  await page.locator('#tail-note', { hasText: 'Following ORDER_NEW:' }).waitFor();

  await service.cli('add', 'OTHER', '{"item": "tea"}');
  await service.cli('add', 'ORDER_NEW', '{"item": "tea"}');
  await service.cli('add', 'ORDER_NEW', '{"item": "coffee"}');
  await events(page).nth(1).waitFor();
  assert.deepEqual(await events(page).locator('.id').allTextContents(), ['3', '2']);

  await page.getByLabel('Text contains').fill('TEA');
  await page.locator('#tail-note', { hasText: '1 with that text' }).waitFor();
  assert.deepEqual(await events(page).filter({ visible: true }).locator('.id').allTextContents(), ['2']);
  await page.getByLabel('Text contains').fill('');

  await page.getByRole('button', { name: 'Pause' }).click();
  await service.cli('add', 'ORDER_NEW', '{"item": "milk"}');
  await page.locator('#tail-note', { hasText: 'Paused: 1 wait' }).waitFor();
  assert.equal(await events(page).count(), 2);
  await page.getByRole('button', { name: 'Pause' }).click();
  await events(page).nth(2).waitFor();
  await page.getByRole('button', { name: 'Clear' }).click();
  assert.equal(await events(page).count(), 0);
  await fine(page);
});

test('what happened shortly before the page was opened is shown', async () => {
  const service = await started();
  for (const text of ['1', '2']) await service.cli('add', 'EARLY', text);
  const page = await openPage(browser, service);
  await events(page).nth(1).waitFor();
  assert.deepEqual(await events(page).locator('.data').allTextContents(), ['2', '1']);
  await fine(page);
});

test('consumers are listed, searched, moved and unregistered after a confirmation', async () => {
  const { service, page } = await stage();
  await service.cli('consumers', 'register', 'SHOP');
  await service.cli('consumers', 'register', 'AUDIT');
  for (let id = 1; id <= 5; id += 1) await service.cli('add', 'ORDER_NEW', `${id}`);
  await rowOf(page, 'local:SHOP').locator('[data-label=Behind]', { hasText: /^5$/ }).waitFor();
  await page.getByLabel('Search').fill('aud');
  await rowOf(page, 'local:SHOP').waitFor({ state: 'detached' });
  await page.getByLabel('Search').fill('nobody');
  await page.getByText('No consumer matches.').waitFor();
  await page.getByLabel('Search').fill('');

  await page.getByRole('button', { name: 'Move local:SHOP' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.locator('#seek-id').fill('3');
  await dialog.getByText('Passes over 3 IDs').waitFor();
  await dialog.getByRole('button', { name: 'Move' }).click();
  await dialog.getByText('Tick the box to confirm.').waitFor();
  assert.equal((await service.consumer('SHOP')).position, '0');
  await dialog.getByRole('checkbox').check();
  await dialog.locator('#seek-id').fill('99');
  await dialog.getByText('Passes over 99 IDs').waitFor();
  assert.equal(await dialog.getByRole('checkbox').isChecked(), false);
  await dialog.getByRole('checkbox').check();
  await dialog.getByRole('button', { name: 'Move' }).click();
  await dialog.getByText('Id 99 is above the highest id 5.').waitFor();
  await dialog.getByLabel('The frontier: only events from now on').check();
  await dialog.getByRole('checkbox').check();
  await dialog.getByRole('button', { name: 'Move' }).click();
  await page.locator('#said', { hasText: 'local:SHOP stands at 5 now.' }).waitFor();
  await rowOf(page, 'local:SHOP').locator('[data-label=Behind]', { hasText: /^0$/ }).waitFor();

  await page.getByRole('button', { name: 'Move local:SHOP' }).click();
  await dialog.getByLabel('Time, in your time zone').fill('2020-01-01T00:00:00');
  await dialog.getByRole('checkbox').check();
  await dialog.getByRole('button', { name: 'Move' }).click();
  await page.locator('#said', { hasText: 'local:SHOP stands at 0 now.' }).waitFor();

  await page.getByRole('button', { name: 'Unregister local:SHOP' }).click();
  await dialog.getByLabel('To confirm, type SHOP').fill('AUDIT');
  await dialog.getByRole('button', { name: 'Unregister' }).click();
  await dialog.getByText('Type SHOP to confirm.').waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  assert.ok(await service.consumer('SHOP'));
  await page.getByRole('button', { name: 'Unregister local:SHOP' }).click();
  await dialog.getByLabel('To confirm, type SHOP').fill('SHOP');
  await dialog.getByRole('button', { name: 'Unregister' }).click();
  await page.locator('#said', { hasText: 'local:SHOP is unregistered.' }).waitFor();
  await rowOf(page, 'local:SHOP').waitFor({ state: 'detached' });
  assert.equal(await service.consumer('SHOP'), undefined);
  await fine(page);
});

// Tabs until the element is reached, as a person would.
async function tabTo(page, selector) {
  for (let step = 0; step < 40; step += 1) {
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`${selector} is not reached by Tab`);
}

test('everything can be done with a keyboard alone', async () => {
  const { service, page } = await stage();
  await service.cli('consumers', 'register', 'SHOP');
  for (let id = 1; id <= 3; id += 1) await service.cli('add', 'ORDER_NEW', `${id}`);
  await rowOf(page, 'local:SHOP').locator('[data-label=Behind]', { hasText: /^3$/ }).waitFor();

  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the consumers');
  await page.keyboard.press('Enter');
  await tabTo(page, '[aria-label="Move local:SHOP"]');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'seek-id');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Move local:SHOP');

  await page.keyboard.press('Enter');
  await page.keyboard.type('2');
  await tabTo(page, '#seek-sure');
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  await page.locator('#said', { hasText: 'local:SHOP stands at 2 now.' }).waitFor();
  assert.equal((await service.consumer('SHOP')).position, '2');

  await tabTo(page, '[aria-label="Unregister local:SHOP"]');
  await page.keyboard.press('Enter');
  await page.keyboard.type('SHOP');
  await page.keyboard.press('Enter');
  await page.locator('#said', { hasText: 'is unregistered' }).waitFor();

  await tabTo(page, '#types');
  await page.keyboard.type('order_paid');
  await page.keyboard.press('Enter');
  await page.locator('#tail-note', { hasText: 'Following ORDER_PAID' }).waitFor();
  await service.cli('add', 'ORDER_PAID', '{"paid": true}');
  await events(page).first().waitFor();
  await tabTo(page, '#log summary');
  await page.keyboard.press('Enter');
  assert.ok(await events(page).locator('pre').isVisible());
  await fine(page);
});

for (const [name, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['light on a phone', { colorScheme: 'light', viewport: { width: 390, height: 844 } }],
  ['dark on a phone', { colorScheme: 'dark', viewport: { width: 390, height: 844 } }],
]) {
  test(`axe finds nothing: ${name}`, async () => {
    const { service, page } = await stage({ ...options, reducedMotion: 'reduce' });
    await service.cli('consumers', 'register', 'SHOP');
    await service.cli('add', 'ORDER_NEW', EXACT);
    await events(page).first().waitFor();
    await rowOf(page, 'local:SHOP').waitFor();
    for (const details of await page.locator('.card details').all()) {
      await details.evaluate((element) => (element.open = true));
    }
    assert.deepEqual(await violations(page), []);
    for (const action of ['Move', 'Unregister']) {
      await page.getByRole('button', { name: `${action} local:SHOP` }).click();
      await page.getByRole('dialog').waitFor();
      assert.deepEqual(await violations(page), [], action);
      await page.keyboard.press('Escape');
    }
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `the page is ${overflow} px too wide`);
    await fine(page);
  });
}

test('theme is chosen and remembered', async () => {
  const { page } = await stage({ colorScheme: 'light' });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByLabel('Theme').selectOption('dark');
  assert.notEqual(await background(), light);
  await page.reload();
  await page.getByText('Live', { exact: true }).waitFor();
  assert.notEqual(await background(), light);
  await page.getByLabel('Theme').selectOption('');
  assert.equal(await background(), light);
  await fine(page);
});

for (const [name, signal] of [
  ['drain', 'SIGTERM'],
  ['crash', 'SIGKILL'],
]) {
  test(`page survives a ${name} of the service, and says so`, async () => {
    const { service, page } = await stage();
    await service.cli('add', 'BEFORE', '1');
    await events(page).first().waitFor();
    await service.end(signal);
    await page.locator('#link-text', { hasText: 'Not live: the service cannot be reached' }).waitFor();
    const said = signal === 'SIGTERM' ? /shutting down|cannot be reached/ : /Interrupted/;
    await page.locator('#tail-note', { hasText: said }).waitFor();
    await service.start();
    await page.getByText('Live', { exact: true }).waitFor();
    await service.cli('add', 'AFTERWARDS', '2');
    await events(page).filter({ hasText: 'AFTERWARDS' }).waitFor();
    // Nothing came twice.
    assert.deepEqual(await events(page).locator('.id').allTextContents(), ['2', '1']);
    await fine(page);
  });
}

test('what an event or a consumer says about itself is text and nothing else', async () => {
  const hostile = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>';
  const service = await started();
  const page = await openPage(browser, service);
  await page.evaluate(() => {
    window.violated = 0;
    document.addEventListener('securitypolicyviolation', () => (window.violated += 1));
  });
  const quoted = hostile.replaceAll("'", "''");
  await service.sql(`INSERT INTO evt_queue (type, data, ts) VALUES
    ('${quoted}', '${quoted}', 'no time'),
    ('A', '"</pre></li><b>bold</b> \u202e javascript:alert(1) \u2028"', CURRENT_TIMESTAMP),
    ('A', CAST(x'ff' AS TEXT), CURRENT_TIMESTAMP),
    ('A', '"after"', CURRENT_TIMESTAMP)`);
  await events(page).filter({ hasText: '"after"' }).waitFor();
  await page.locator('#log .gap', { hasText: 'Event 3 cannot be shown: its data is not UTF-8 text.' }).waitFor();
  const first = events(page).filter({ hasText: 'onerror' });
  assert.equal(await first.locator('.type').textContent(), hostile);
  assert.equal(await first.locator('pre').textContent(), hostile);
  const second = events(page).filter({ hasText: 'bold' });
  assert.equal(await second.locator('pre').textContent(), '"</pre></li><b>bold</b> \u202e javascript:alert(1) \u2028"');

  await service.cli('consumers', 'register', 'SHOP', '--start', 'now');
  const receiver = service.subscriber('SHOP', hostile);
  await rowOf(page, 'local:SHOP').locator('.on', { hasText: hostile }).waitFor();
  assert.equal(await page.locator('#log img, #log b, #log script, #rows img').count(), 0);
  assert.deepEqual(await page.evaluate(() => [window.pwned, window.violated]), [undefined, 0]);
  assert.deepEqual(await violations(page), []);
  await receiver.end();
  await fine(page);
});

test('more events than anybody reads are counted, not shown', async () => {
  const { service, page } = await stage();
  await page.locator('#tail-note', { hasText: 'Following all types' }).waitFor();
  await service.sql(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
    INSERT INTO evt_queue (type, data, ts) SELECT 'FLOOD', '{"i": ' || i || '}', CURRENT_TIMESTAMP FROM n`);
  await events(page).locator('.id', { hasText: /^5000$/ }).waitFor();
  await page.locator('#log .gap', { hasText: 'came faster than can be shown' }).first().waitFor();
  const shown = await events(page).locator('.id').allTextContents();
  assert.ok(shown.length <= 300, `${shown.length}`);
  assert.deepEqual(shown.map(Number).toSorted((a, b) => b - a), shown.map(Number));
  await fine(page);
});

test('who holds the frontier is named, until it lets go', async () => {
  const url = given('TEST_POSTGRES_DB');
  const service = await started(['--db', url]);
  const page = await openPage(browser, service);
  await page.getByText('Every ID that was given out is settled.').waitFor();
  const session = await holdOpen(url, 'forgetful');
  const row = page.locator('#blockers tbody tr', { hasText: 'forgetful' });
  await row.waitFor();
  assert.equal(await row.locator('th').textContent(), session.pid);
  await page.locator('#holds', { hasText: 'It waits for ID' }).waitFor();
  await page.locator('#tile-waiting.warn').waitFor();
  assert.deepEqual(await violations(page), []);
  await session.end();
  await page.getByText('Every ID that was given out is settled.').waitFor();
  await fine(page);
});

test('somebody who is asked for credentials signs in, and sees what it may', async () => {
  const service = await Service.open(['--auth-file', 'users.toml']);
  services.push(service);
  const eye = "observe = true\nconsume = ['LIVE']\ntypes = ['ORDER_*']";
  await service.users({ eye, ops: "administer = true\nconsume = ['*']\ngenerate = ['*']\ntypes = ['*']", shop: '' });
  await service.start();
  await service.cli('consumers', 'register', 'SHOP', '--token', 'ops');
  await service.cli('add', 'SECRET', '1', '--token', 'ops');
  await service.cli('add', 'ORDER_NEW', '2', '--token', 'ops');

  const page = await openPage(browser, service, {}, 'Signed out');
  assert.deepEqual(await violations(page), []);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'token');
  for (const [token, said] of [['wrong', 'token'], ['shop', 'user shop may not see the console']]) {
    await page.getByLabel('Bearer token').fill(token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('#sign-in-error', { hasText: said }).waitFor();
  }
  await page.getByLabel('Bearer token').fill('eye');
  await page.keyboard.press('Enter');
  await page.getByText('Live', { exact: true }).waitFor();
  await rowOf(page, 'ops:SHOP').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Move ops:SHOP' }).count(), 0);
  await events(page).first().waitFor();
  assert.deepEqual(await events(page).locator('.type').allTextContents(), ['ORDER_NEW']);

  await page.reload();
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Forget the token' }).click();
  await page.getByText('Signed out').waitFor();
  await page.getByLabel('Bearer token').fill('ops');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Move ops:SHOP' }).waitFor();

  // Removed from the file, it is shown the door.
  await service.users({ eye });
  await page.getByText('Signed out').waitFor();
  await fine(page);
});

test('charts tell what was counted, as pictures and as tables', async () => {
  const { service, page } = await stage();
  for (let id = 1; id <= 3; id += 1) await service.cli('add', 'ORDER_NEW', `${id}`);
  // The slot that is not over is not drawn: this waits for its end, 10 s at most.
  const chart = page.locator('#chart-events');
  await chart.locator('.legend li', { hasText: 'ORDER_NEW' }).waitFor({ timeout: 40_000 });
  assert.match(await chart.locator('svg').getAttribute('aria-label'), /^Events per second by type\. ORDER_NEW/);
  await chart.locator('summary').click();
  await chart.getByRole('columnheader', { name: 'ORDER_NEW' }).waitFor();
  await chart.getByText('Bytes/s').click();
  await chart.locator('td', { hasText: /B$/ }).first().waitFor();
  await fine(page);
});
