/**
 * The receiver that gets every event of a component, in order, at least once.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';

import type { Connection } from '../connection.js';
import { EventStreamError } from '../errors.js';
import {
  ConflictPolicy,
  ReadyToReceiveRequestSchema,
  type ReadyToReceiveRequest,
} from '../gen/futoin/evt/v1/push_pb.js';
import { isFenced } from '../retry.js';
import { startAt, wanted } from '../start.js';
import { Handling } from './handling.js';
import type { GroupHandler, ReceiveOptions } from './options.js';
import { Receiver, type SessionEnd } from './receiver.js';
import { Session, type SessionRules } from './session.js';
import { Subscription } from './subscription.js';

const CONFLICT = {
  'take-over': ConflictPolicy.TAKE_OVER,
  'stand-by': ConflictPolicy.STAND_BY,
  reject: ConflictPolicy.REJECT,
};

// Long enough for a slow database, short enough not to hold up a reconnection.
const ACK_TIMEOUT_MS = 5000;

/**
 * Gets every event of a component, in order, at least once: registers,
 * subscribes, hands events to the handler, acknowledges what is handled, and
 * comes back after every interruption.
 */
export class ReliableReceiver extends Receiver {
  readonly #connection: Connection;
  readonly #options: ReceiveOptions;
  readonly #rules: SessionRules;
  #registered: boolean;
  #standBy = false;
  // The position that the service holds, and the last one handled here.
  #stored: bigint | undefined;
  #handled: bigint | undefined;

  /** @internal */
  constructor(
    connection: Connection,
    component: string,
    handler: GroupHandler,
    options: ReceiveOptions,
    byGroup: boolean,
  ) {
    super(component, options, connection);
    const { workers = 1, key } = options;
    if (workers > 1 && !key) {
      throw new EventStreamError('options: more than one worker needs a key');
    }
    this.#connection = connection;
    this.#options = options;
    this.#registered = options.register === false;
    const handling = new Handling({
      component,
      handler,
      onFailure: options.onFailure ?? 'retry',
      backoff: this.backoff,
      log: this.log,
      tracing: options.tracing,
      cancelled: this.cancelled,
    });
    this.#rules = {
      backoff: this.backoff,
      stopping: this.stopping.signal,
      cancelled: this.cancelled,
      byGroup,
      workers,
      keyOf: ({ events: [event] }) => key && event && key(event),
      handle: (unit, over) => handling.handle(unit, over),
      ack: (position, epoch) => this.#ack(position, epoch),
      onStarted: ({ epoch, startAfterId }) => {
        this.log('info', 'receiving', { component, epoch, startAfterId });
        options.onStarted?.(epoch, startAfterId);
      },
      onPosition: (position) => (this.#handled = position),
      onEnding: (reason) => this.log('info', 'the service will end the session', { component, reason }),
      onUnacknowledged: (error) => this.#unacknowledged(error),
    };
  }

  /** @internal */
  protected override async session(): Promise<SessionEnd> {
    try {
      await this.#register();
    } catch (error) {
      return { error: this.isStopping() ? undefined : (error as Error), broughtGroup: false };
    }
    if (this.isStopping()) {
      return { error: undefined, broughtGroup: false };
    }
    const subscription = new Subscription(this.#connection.openStream, this.#request());
    const end = await new Session(subscription, this.#rules).run();
    this.#standBy ||= isFenced(end.error);
    return end;
  }

  async #register(): Promise<void> {
    if (this.#registered) {
      return;
    }
    const options = { signal: this.stopping.signal };
    const consumer = await this.#connection.register(this.component, this.#options.start, options);
    this.#registered = true;
    this.#stored = consumer.position;
  }

  #request(): ReadyToReceiveRequest {
    const { want, conflict = 'take-over', heartbeatIntervalMs, maxLingerMs, ...options } = this.#options;
    const start = this.#start();
    return create(ReadyToReceiveRequestSchema, {
      component: this.component,
      conflictPolicy: this.#standBy ? ConflictPolicy.STAND_BY : CONFLICT[conflict],
      clientLabel: options.clientLabel ?? this.#connection.label,
      maxInFlightEvents: options.maxInFlightEvents ?? 0,
      maxInFlightBytes: BigInt(options.maxInFlightBytes ?? 0),
      maxGroupEvents: options.maxGroupEvents ?? 0,
      ...(want && { want: wanted(want) }),
      ...(start && { start }),
      ...(maxLingerMs !== undefined && { maxLinger: durationFromMs(maxLingerMs) }),
      ...(heartbeatIntervalMs !== undefined && { heartbeatInterval: durationFromMs(heartbeatIntervalMs) }),
    });
  }

  // Where a replay begins, and where it goes on while the stored position is
  // further; unset otherwise, for the service knows best.
  #start() {
    const { start, replay } = this.#options;
    if (!replay || start === undefined) {
      return undefined;
    }
    if (this.#handled !== undefined) {
      const behind = this.#stored === undefined || this.#handled < this.#stored;
      return behind ? startAt({ afterId: this.#handled }) : undefined;
    }
    const place = startAt(start);
    return place.at.value === this.#stored ? undefined : place;
  }

  async #ack(position: bigint, epoch: bigint): Promise<void> {
    const options = { timeoutMs: ACK_TIMEOUT_MS, signal: this.cancelled };
    this.#stored = await this.#connection.ack(this.component, position, epoch, options);
  }

  #unacknowledged(error: unknown): void {
    this.#standBy ||= isFenced(error);
    this.log('warn', 'not acknowledged, events will come again', { component: this.component, error });
  }
}
