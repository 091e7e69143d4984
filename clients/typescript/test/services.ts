/** The services and databases that `scripts/with-services.sh` started. */
import { randomBytes } from 'node:crypto';

import { EventStream } from '@futoin/eventstream';

/** @throws Error that says what to do */
export function given(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set: run scripts/with-services.sh clients/typescript/test.sh`);
  }
  return value;
}

/** A client of the service on an engine: `SQLITE`, `POSTGRES`, `MYSQL`. */
export function serviceOn(engine: string): EventStream {
  return new EventStream(`http://${given(`TEST_${engine}`)}`);
}

/** A component of this test run. */
export function component(): string {
  return `T_${randomBytes(5).toString('hex')}`;
}

/** An event type of this test run: `T_` and letters. */
export function eventType(): string {
  const letters = [...randomBytes(10)].map((byte) => String.fromCharCode(65 + (byte % 26)));
  return `T_${letters.join('')}`;
}

/** A promise to be settled from outside. */
export function deferred<T>() {
  let resolve: (value: T) => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<T>((fulfil, refuse) => {
    resolve = fulfil;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

/** Collects what a receiver gives, until there is enough of it. */
export class Inbox<T> {
  readonly items: T[] = [];
  #waiting: (() => void)[] = [];

  readonly add = (item: T): void => {
    this.items.push(item);
    this.#waiting.splice(0).forEach((wake) => wake());
  };

  async atLeast(count: number): Promise<T[]> {
    while (this.items.length < count) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.items;
  }
}
