import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { EventStream } from '@futoin/eventstream';
import { build } from 'esbuild';
import { chromium, type Page } from 'playwright-core';

import { freePort, Service } from './eventstream.js';
import { component, eventType, Inbox } from './services.js';

const CHROMIUM = '/usr/bin/chromium';
// Nothing but the page and the service: Chromium is not to call home.
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const ends: (() => unknown)[] = [];
let service: Service;
let page: Page;
const reports = { event: new Inbox<string>(), reconnect: new Inbox<string>(), started: new Inbox<string>() };

before(async () => {
  assert.ok(existsSync(CHROMIUM), `${CHROMIUM} is missing: apt-get install chromium`);
  const directory = await mkdtemp(join(tmpdir(), 'eventstream-browser-'));
  ends.unshift(() => rm(directory, { recursive: true }));
  const origin = await servePage();
  const database = `sqlite:${join(directory, 'web.db')}`;
  service = new Service(await freePort(), ['--db', database, '--grpc-web-origins', origin]);
  ends.unshift(() => service.kill());
  await service.start();
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
  ends.unshift(() => browser.close());
  page = await browser.newPage();
  await page.exposeFunction('report', (what: keyof typeof reports, value: string) => {
    reports[what].add(value);
  });
  page.on('pageerror', (error) => assert.fail(error));
  await page.goto(origin);
});

after(async () => {
  for (const end of ends) {
    await end();
  }
});

test(
  'a page of another origin subscribes, acknowledges, and outlives a restart',
  { timeout: 90_000 },
  async () => {
    const [name, type] = [component(), eventType()];
    const stream = new EventStream(service.address);
    await page.evaluate(([address, name, type]) => window.app.subscribe(address, name, type), [
      service.address,
      name,
      type,
    ] as const);
    await reports.started.atLeast(1);

    const first = await page.evaluate((type) => window.app.add(type, '9007199254740993'), type);
    assert.deepEqual(await reports.event.atLeast(1), [`${first} 9007199254740993`]);
    await acknowledged(stream, name, BigInt(first));
    assert.equal(await page.evaluate(() => window.app.refused()), 'NOT_FOUND NOT_REGISTERED');

    await service.kill();
    await reports.reconnect.atLeast(2);
    assert.deepEqual(reports.reconnect.items.slice(0, 2), ['1', '2']);
    await service.start();
    const second = await stream.addEvent(type, { n: 2 });
    assert.deepEqual(await reports.event.atLeast(2), [`${first} 9007199254740993`, `${second} 2`]);
    assert.equal(reports.started.items.length, 2);

    await page.evaluate(() => window.app.stop());
    assert.equal(await position(stream, name), second);
    await stream.close();
  },
);

async function position(stream: EventStream, name: string): Promise<bigint | undefined> {
  for await (const consumer of stream.admin.consumers()) {
    if (consumer.component === name) {
      return consumer.position;
    }
  }
  return undefined;
}

async function acknowledged(stream: EventStream, name: string, id: bigint): Promise<void> {
  while ((await position(stream, name)) !== id) {
    await new Promise(setImmediate);
  }
}

/** Serves the page, and gives its origin. */
async function servePage(): Promise<string> {
  const bundle = await build({
    entryPoints: ['test/browser/page.ts'],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    write: false,
  });
  const text = bundle.outputFiles[0]?.text ?? '';
  const html = `<!doctype html><meta charset="utf-8"><title>eventstream</title><script type="module">${text}</script>`;
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/html').end(html);
  });
  ends.unshift(() => {
    server.close();
    server.closeAllConnections();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
