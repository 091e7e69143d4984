/**
 * The receiver that gets what happens from now on.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';

import type { Connection } from '../connection.js';
import { Event } from '../event.js';
import {
  ReadyToReceiveRequestSchema,
  type EventGroup,
  type ReadyToReceiveRequest,
} from '../gen/futoin/evt/v1/push_pb.js';
import { unlessAborted } from '../retry.js';
import { startAt, wanted } from '../start.js';
import { Handling } from './handling.js';
import type { GroupHandler, LiveOptions } from './options.js';
import { Receiver, type SessionEnd } from './receiver.js';
import { Subscription } from './subscription.js';
import { Work } from './work.js';

const LIVE = 'LIVE';
// Units that wait for the handler when the next group is read. While more do,
// the service drops and counts. Each may have 8 MiB.
const QUEUE_LIMIT = 16;

/**
 * Gets events from now on. It may miss some: those that a slow handler could
 * not take are counted in {@link dropped}, those of a lost session are not.
 */
export class LiveReceiver extends Receiver {
  readonly #connection: Connection;
  readonly #options: LiveOptions;
  readonly #handling: Handling;
  readonly #byGroup: boolean;
  #dropped = 0n;
  #begun = false;

  /** @internal */
  constructor(connection: Connection, handler: GroupHandler, options: LiveOptions, byGroup: boolean) {
    super(LIVE, options, connection);
    this.#connection = connection;
    this.#options = options;
    this.#byGroup = byGroup;
    this.#handling = new Handling({
      component: LIVE,
      handler,
      onFailure: options.onFailure ?? 'retry',
      backoff: this.backoff,
      log: this.log,
      tracing: options.tracing,
      cancelled: this.cancelled,
    });
  }

  /** Events dropped so far because this receiver was too slow, before `want` is applied. */
  get dropped(): bigint {
    return this.#dropped;
  }

  /** @internal */
  protected override async session(): Promise<SessionEnd> {
    const subscription = new Subscription(this.#connection.openStream, this.#request());
    const over = new AbortController();
    const work = new Work({
      workers: 1,
      keyOf: () => undefined,
      handle: (unit) => this.#handling.handle(unit, over.signal),
      onPosition: () => undefined,
      onFailed: (error) => subscription.end(error),
    });
    const forget = () => {
      work.close();
      over.abort();
      subscription.end();
    };
    this.stopping.signal.addEventListener('abort', forget);
    const end = await this.#read(subscription, work);
    this.stopping.signal.removeEventListener('abort', forget);
    forget();
    await unlessAborted(work.idle(), this.cancelled);
    return end;
  }

  async #read(subscription: Subscription, work: Work): Promise<SessionEnd> {
    let broughtGroup = false;
    const error = await subscription.read({
      started: ({ epoch, startAfterId }) => {
        this.#begun = true;
        this.#options.onStarted?.(epoch, startAfterId);
      },
      group: (group) => {
        broughtGroup = true;
        return this.#take(group, work);
      },
      ending: (reason) => this.log('info', 'the service will end the session', { component: LIVE, reason }),
    });
    return { error, broughtGroup };
  }

  #take(group: EventGroup, work: Work): Promise<void> | undefined {
    if (group.skippedEvents > 0n) {
      this.#dropped += group.skippedEvents;
      this.#options.onDropped?.(this.#dropped);
    }
    const events = group.events.map((message) => new Event(message));
    const units = this.#byGroup ? [events] : events.map((event) => [event]);
    for (const unit of units) {
      work.add(unit, group.lastId);
    }
    return work.size >= QUEUE_LIMIT ? work.below(QUEUE_LIMIT) : undefined;
  }

  #request(): ReadyToReceiveRequest {
    const { want, heartbeatIntervalMs, maxLingerMs, start, ...options } = this.#options;
    return create(ReadyToReceiveRequestSchema, {
      component: LIVE,
      clientLabel: options.clientLabel ?? this.#connection.label,
      maxGroupEvents: options.maxGroupEvents ?? 0,
      ...(want && { want: wanted(want) }),
      // What is gone with a session is gone: only the first one replays.
      ...(start && !this.#begun && { start: startAt(start) }),
      ...(maxLingerMs !== undefined && { maxLinger: durationFromMs(maxLingerMs) }),
      ...(heartbeatIntervalMs !== undefined && { heartbeatInterval: durationFromMs(heartbeatIntervalMs) }),
    });
  }
}
