/**
 * What both receivers are: sessions one after the other, until it is told to
 * end or there is no use in coming back.
 *
 * @module
 */
import type { Connection, Stoppable } from '../connection.js';
import type { ServiceError } from '../errors.js';
import type { Log } from '../log.js';
import { DEFAULT_BACKOFF, delayMs, isReconnectable, pause, type Backoff } from '../retry.js';
import type { ReceiverOptions } from './options.js';

/** A running receiver. It begins by itself, at once. */
export abstract class Receiver {
  /**
   * Fulfilled after {@link stop}; rejects with the error that ended the
   * receiver, or with the reason of its signal.
   */
  readonly done: Promise<void>;
  /** The component it receives for. */
  readonly component: string;
  /** @internal */
  protected readonly log: Log;
  /** @internal */
  protected readonly backoff: Backoff;
  /** @internal Aborted by stop and by cancel. */
  protected readonly stopping = new AbortController();
  /** @internal Aborted by cancel. */
  protected readonly cancelled: AbortSignal;
  readonly #onReconnect: ReceiverOptions['onReconnect'];
  readonly #running: Set<Stoppable>;

  /** @internal */
  protected constructor(component: string, options: ReceiverOptions, connection: Connection) {
    this.component = component;
    this.log = options.log ?? connection.log;
    this.backoff = { ...DEFAULT_BACKOFF, ...options.backoff };
    this.cancelled = options.signal ?? new AbortController().signal;
    this.#onReconnect = options.onReconnect;
    this.#running = connection.receivers;
    this.#running.add(this);
    // After the constructors of the subclasses.
    this.done = Promise.resolve().then(() => this.#run());
  }

  /**
   * Takes no further event, finishes the one in the handler, acknowledges and
   * ends; fulfilled then. Rejects if the receiver had ended with an error.
   */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.done;
  }

  /** The same as {@link stop}, at the end of an `await using` scope. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** @internal */
  protected isStopping(): boolean {
    return this.stopping.signal.aborted;
  }

  /**
   * One session. Tells whether it brought events, and why it ended if it was
   * not told to.
   *
   * @internal
   */
  protected abstract session(): Promise<SessionEnd>;

  async #run(): Promise<void> {
    const cancel = () => this.stopping.abort();
    this.cancelled.addEventListener('abort', cancel);
    try {
      this.cancelled.throwIfAborted();
      await this.#sessions();
      this.cancelled.throwIfAborted();
    } finally {
      this.cancelled.removeEventListener('abort', cancel);
      this.stopping.abort();
      this.#running.delete(this);
    }
  }

  async #sessions(): Promise<void> {
    for (let attempt = 1; !this.isStopping(); attempt++) {
      const { error, broughtGroup } = await this.session();
      if (error !== undefined && !isReconnectable(error)) {
        throw error;
      }
      if (error !== undefined && !this.isStopping()) {
        attempt = broughtGroup ? 1 : attempt;
        await this.#wait(attempt, error);
      }
    }
  }

  async #wait(attempt: number, error: ServiceError): Promise<void> {
    const delay = delayMs(attempt, this.backoff, error);
    const { component } = this;
    this.log('warn', 'reconnecting', { component, attempt, delayMs: delay, error });
    this.#onReconnect?.(attempt, delay, error);
    await pause(delay, this.stopping.signal);
  }
}

/** How a session ended. */
export interface SessionEnd {
  /** Unset when the receiver was told to end. */
  readonly error: Error | undefined;
  readonly broughtGroup: boolean;
}
