/**
 * The acknowledgements of one session: at most one call is under way, and what
 * was handled meanwhile goes as one into the next.
 *
 * @module
 */
import { delayMs, isFenced, isReconnectable, pause, type Backoff } from '../retry.js';

/** Acknowledges everything up to a position. */
export type SendAck = (position: bigint) => Promise<void>;

export class Acker {
  readonly #send: SendAck;
  readonly #backoff: Backoff;
  readonly #onRefused: (error: Error) => void;
  // Aborted with the session: no acknowledgement is repeated after it.
  readonly #over = new AbortController();
  #position = -1n;
  #acked = -1n;
  #refused = false;
  #running: Promise<void> | undefined;

  constructor(send: SendAck, backoff: Backoff, onRefused: (error: Error) => void) {
    this.#send = send;
    this.#backoff = backoff;
    this.#onRefused = onRefused;
  }

  /** Everything up to the position is done. */
  ack(position: bigint): void {
    this.#position = position;
    this.#running ??= this.#run();
  }

  /** The session is over: nothing is repeated any more. */
  close(): void {
    this.#over.abort();
  }

  /** After {@link close}: waits for the call under way, then acknowledges the last position, once. */
  async finish(): Promise<void> {
    await this.#running;
    if (this.#acked < this.#position && !this.#refused) {
      await this.#send(this.#position);
    }
  }

  async #run(): Promise<void> {
    // What is handled without waiting for anything goes into one call.
    await nextTurn();
    let attempt = 0;
    while (this.#acked < this.#position && !this.#over.signal.aborted) {
      const position = this.#position;
      try {
        await this.#send(position);
        this.#acked = position;
        attempt = 0;
      } catch (error) {
        await this.#failed(error, ++attempt);
      }
    }
    this.#running = undefined;
  }

  async #failed(error: unknown, attempt: number): Promise<void> {
    if (isReconnectable(error) && !isFenced(error)) {
      await pause(delayMs(attempt, this.#backoff, error), this.#over.signal);
      return;
    }
    this.#refused = true;
    this.close();
    this.#onRefused(error as Error);
  }
}

// setImmediate where there is one: timers of browsers may be a second late.
function nextTurn(): Promise<void> {
  const { setImmediate } = globalThis as { setImmediate?: (then: () => void) => void };
  return new Promise((resolve) => (setImmediate ? setImmediate(resolve) : setTimeout(resolve, 0)));
}
