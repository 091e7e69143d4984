// The program under test as a process, and the browser that looks at it.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

import { chromium } from 'playwright-core';

const run = promisify(execFile);
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

export function given(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: run scripts/with-services.sh tests/console/test.sh`);
  return value;
}

export function launch() {
  assert.ok(existsSync(CHROMIUM), `${CHROMIUM} is missing: scripts/tools.sh installs it`);
  return chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
}

// A service of its own, on a file of its own unless `--db` is among the options.
export class Service {
  #options;
  #process;
  #http = '127.0.0.1:0';

  constructor(directory, options = []) {
    this.directory = directory;
    this.file = join(directory, 'events.db');
    const database = options.includes('--db') ? [] : ['--db', `sqlite:${this.file}`];
    this.#options = [...database, ...options];
  }

  static async open(options) {
    return new Service(await mkdtemp(join(tmpdir(), 'eventstream-console-')), options);
  }

  // Starts it and waits until it is ready; again, at the same HTTP address.
  async start() {
    const args = ['serve', '--grpc', '127.0.0.1:0', '--http', this.#http, '--log-format', 'json', ...this.#options];
    this.#process = spawn(given('TEST_EVENTSTREAM'), args, { cwd: this.directory, stdio: ['ignore', 'ignore', 'pipe'] });
    const lines = [];
    const log = createInterface(this.#process.stderr);
    for await (const line of log) {
      lines.push(line);
      const { message, address } = JSON.parse(line);
      if (message === 'listening for HTTP') this.#http = address;
      if (message === 'listening for gRPC') this.grpc = address;
      if (message === 'ready') {
        this.#process.stderr.resume();
        return this;
      }
    }
    throw new Error(`the service did not start:\n${lines.join('\n')}`);
  }

  get origin() {
    return `http://${this.#http}`;
  }

  get page() {
    return `${this.origin}/console/`;
  }

  async end(signal = 'SIGTERM') {
    const ended = this.#process;
    this.#process = undefined;
    if (!ended || ended.exitCode !== null) return;
    const exit = once(ended, 'exit');
    ended.kill(signal);
    await exit;
  }

  async remove() {
    await this.end();
    await rm(this.directory, { recursive: true });
  }

  // Writes its file of users, each with a token that is its name, as careful
  // programs do: whole, or not at all.
  async users(users) {
    const file = join(this.directory, 'users.toml');
    const digest = (token) => createHash('sha256').update(token).digest('hex');
    const section = ([name, rights]) => `[users.${name}]\ntokens = ["sha256:${digest(name)}"]\n${rights}\n`;
    await writeFile(`${file}.new`, Object.entries(users).map(section).join(''));
    await rename(`${file}.new`, file);
  }

  // A subcommand of the program, against it.
  async cli(...args) {
    const { stdout } = await run(given('TEST_EVENTSTREAM'), args, { env: { ...process.env, EVENTSTREAM_ADDR: this.grpc } });
    return stdout;
  }

  // A push session that says this about itself, until it is ended.
  subscriber(component, label) {
    const request = JSON.stringify({ component, client_label: label });
    const args = ['-plaintext', '-d', request, this.grpc, 'futoin.evt.v1.PushService/ReadyToReceive'];
    const child = spawn('grpcurl', args, { stdio: 'ignore' });
    return {
      async end() {
        const exit = once(child, 'exit');
        child.kill();
        await exit;
      },
    };
  }

  async sql(text) {
    const { stdout } = await run('sqlite3', ['-cmd', '.timeout 10000', this.file, text]);
    return stdout.trim();
  }

  async consumer(component) {
    const listed = await this.cli('consumers', 'list', '--json');
    return listed.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line)).find((one) => one.component === component);
  }
}

// A session of PostgreSQL that stays in a transaction which has an id.
export async function holdOpen(url, name) {
  const child = spawn('psql', [url, '-qtA'], { env: { ...process.env, PGAPPNAME: name }, stdio: ['pipe', 'pipe', 'inherit'] });
  const insert = "INSERT INTO evt_queue (type, data, ts) VALUES ('HELD', '{}', CURRENT_TIMESTAMP)";
  child.stdin.write(`BEGIN;\n${insert};\nSELECT pg_backend_pid();\n`);
  const [said] = await once(child.stdout, 'data');
  return {
    pid: String(said).trim(),
    async end() {
      const exit = once(child, 'exit');
      child.stdin.end('ROLLBACK;\n');
      await exit;
    },
  };
}

// A page that fails the test when its own code fails.
export async function openPage(browser, service, options = {}, link = 'Live') {
  const context = await browser.newContext({ timezoneId: 'UTC', locale: 'en', viewport: { width: 1400, height: 1000 }, ...options });
  // Nothing takes this long unless it hangs.
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (message) => {
    // The browser itself says which requests failed; the tests make some fail.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) page.faults.push(message.text());
  });
  await page.goto(service.page);
  await page.getByText(link, { exact: true }).waitFor();
  return page;
}
