/**
 * One session of a reliable receiver: the stream, the handling of what it
 * brings, and the acknowledgements.
 *
 * @module
 */
import { ServiceError } from '../errors.js';
import { Event } from '../event.js';
import type { EventGroup, SubscriptionStarted } from '../gen/futoin/evt/v1/push_pb.js';
import { isFenced, unlessAborted, type Backoff } from '../retry.js';
import { Acker } from './acker.js';
import type { SessionEnd } from './receiver.js';
import { Subscription, type Visitor } from './subscription.js';
import { Work, type Unit, type WorkRules } from './work.js';

/** What a session needs of its receiver. */
export interface SessionRules {
  readonly backoff: Backoff;
  /** Aborted by stop and by cancel. */
  readonly stopping: AbortSignal;
  readonly cancelled: AbortSignal;
  /** Whole groups are handled at once. */
  readonly byGroup: boolean;
  readonly workers: WorkRules['workers'];
  readonly keyOf: WorkRules['keyOf'];
  readonly handle: (unit: Unit, over: AbortSignal) => Promise<boolean>;
  readonly ack: (position: bigint, epoch: bigint) => Promise<void>;
  readonly onStarted: (started: SubscriptionStarted) => void;
  readonly onPosition: (position: bigint) => void;
  readonly onEnding: (reason: string) => void;
  readonly onUnacknowledged: (error: unknown) => void;
}

export class Session implements Visitor {
  readonly #rules: SessionRules;
  readonly #subscription: Subscription;
  readonly #work: Work;
  readonly #acker: Acker;
  // The end of the session, which ends the waits of failed handlers.
  readonly #over = new AbortController();
  #epoch: bigint | undefined;
  #groups = 0n;
  #settled: Promise<void> | undefined;

  constructor(subscription: Subscription, rules: SessionRules) {
    this.#rules = rules;
    this.#subscription = subscription;
    this.#acker = new Acker(
      (position) => rules.ack(position, this.#epoch ?? 0n),
      rules.backoff,
      (error) => subscription.end(error),
    );
    this.#work = new Work({
      workers: rules.workers,
      keyOf: rules.keyOf,
      handle: (unit) => rules.handle(unit, this.#over.signal),
      onPosition: (position) => this.#moved(position),
      onFailed: (error) => subscription.end(error),
    });
  }

  /** From the subscription to the last acknowledgement. */
  async run(): Promise<SessionEnd> {
    const { stopping, cancelled } = this.#rules;
    const stop = () => void this.#stop();
    const cancel = () => this.#subscription.end();
    stopping.addEventListener('abort', stop);
    cancelled.addEventListener('abort', cancel);
    const error = await this.#subscription.read(this);
    stopping.removeEventListener('abort', stop);
    cancelled.removeEventListener('abort', cancel);
    this.#forget();
    await unlessAborted(isFenced(error) ? this.#work.idle() : this.#settle(), cancelled);
    return { error, broughtGroup: this.#groups > 0n };
  }

  started(started: SubscriptionStarted): void {
    this.#epoch = started.epoch;
    this.#rules.onStarted(started);
  }

  group(group: EventGroup): undefined {
    if (this.#epoch === undefined || group.seq !== this.#groups) {
      const text = `group ${group.seq} came instead of ${this.#groups}`;
      this.#subscription.end(new ServiceError('UNAVAILABLE', text));
      return;
    }
    this.#groups++;
    this.#take(group);
  }

  ending(reason: string): void {
    this.#rules.onEnding(reason);
  }

  #take({ events: messages, lastId }: EventGroup): void {
    const events = messages.map((message) => new Event(message));
    if (this.#rules.byGroup || events.length === 0) {
      this.#work.add(events, lastId);
      return;
    }
    // The last one brings the position behind events that were filtered out.
    const last = events.at(-1);
    for (const event of events) {
      this.#work.add([event], event === last ? lastId : event.id);
    }
  }

  #moved(position: bigint): void {
    this.#rules.onPosition(position);
    this.#acker.ack(position);
  }

  // The stream stays open until everything is acknowledged.
  async #stop(): Promise<void> {
    this.#forget();
    await this.#settle();
    this.#subscription.end();
  }

  #forget(): void {
    this.#work.close();
    this.#acker.close();
    this.#over.abort();
  }

  // What is in the handler is finished, then the last position is acknowledged
  // once more if it has to be.
  #settle(): Promise<void> {
    this.#settled ??= this.#settleOnce();
    return this.#settled;
  }

  async #settleOnce(): Promise<void> {
    await this.#work.idle();
    try {
      await this.#acker.finish();
    } catch (error) {
      this.#rules.onUnacknowledged(error);
    }
  }
}
