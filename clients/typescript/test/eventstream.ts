/** A service of its own, for tests that end it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import type { AddressInfo } from 'node:net';

import { given } from './services.js';

/** A port of loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export class Service {
  readonly #options: string[];
  #process: ChildProcess | undefined;

  /** @param options of `eventstream serve`, beside where it listens */
  constructor(
    readonly port: number,
    options: string[],
  ) {
    const grpc = `127.0.0.1:${port}`;
    const listen = ['--grpc', grpc, '--http', '127.0.0.1:0', '--log-format', 'json'];
    this.#options = ['serve', ...listen, ...options];
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts it, and waits until it is ready. */
  async start(): Promise<void> {
    const started = spawn(given('TEST_EVENTSTREAM'), this.#options, {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = started;
    const lines: string[] = [];
    for await (const line of createInterface(started.stderr)) {
      lines.push(line);
      if (line.includes('"message":"ready"')) {
        started.stderr.resume();
        return;
      }
    }
    throw new Error(`the service did not start:\n${lines.join('\n')}`);
  }

  /** Kills it, as a crash does. */
  async kill(): Promise<void> {
    const killed = this.#process;
    this.#process = undefined;
    if (killed?.exitCode === null) {
      killed.kill('SIGKILL');
      await once(killed, 'exit');
    }
  }
}
