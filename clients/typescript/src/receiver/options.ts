/**
 * Options of receivers. Durations are in milliseconds.
 *
 * @module
 */
import type { EventStreamError } from '../errors.js';
import type { Event } from '../event.js';
import type { Log } from '../log.js';
import type { Backoff } from '../retry.js';
import type { Start } from '../start.js';

/** What a handler may want to know beside the event. */
export interface HandlerContext {
  /** 1, and more when the handler has failed on it, in this session or an earlier one. */
  readonly attempt: number;
  /** Aborted when the receiver is cancelled. */
  readonly signal: AbortSignal;
}

/** Takes one event. It is handled when the handler returns, or its promise is fulfilled. */
export type Handler = (event: Event, context: HandlerContext) => unknown;

/** Takes the events of one group, 1 to 1000 in order. They are handled when it returns, or its promise is fulfilled. */
export type GroupHandler = (events: readonly Event[], context: HandlerContext) => unknown;

/** Gives events on which the handler keeps failing to a callback, then goes on. */
export interface DeadLetters {
  /** Takes the event and the handler's last error. When it fails itself, the handler is tried again. */
  readonly deadLetter: (event: Event, error: unknown) => unknown;
  /** Calls of the handler before that; 5 by default. */
  readonly attempts?: number;
}

/**
 * What happens when the handler fails: `retry` calls it again with back-off,
 * for ever; `stop` ends the receiver with a {@link HandlerError}; or
 * {@link DeadLetters}.
 */
export type OnFailure = 'retry' | 'stop' | DeadLetters;

/** What is about to be handled, for tracing. */
export interface Delivery {
  /** The receiver's component. */
  readonly component: string;
  /** One event, or a group's. */
  readonly events: readonly Event[];
  /** As {@link HandlerContext.attempt}. */
  readonly attempt: number;
}

/** Stands around each call of a handler: calls `handle` once and gives on what it gives. */
export type Tracing = (delivery: Delivery, handle: () => Promise<void>) => Promise<void>;

/** Options of every receiver. */
export interface ReceiverOptions {
  /** Types of interest; every type by default. */
  readonly want?: readonly string[];
  /** What happens when the handler fails; `retry` by default. */
  readonly onFailure?: OnFailure;
  /** Delays before reconnecting and before a failed handler is called again. */
  readonly backoff?: Partial<Backoff>;
  /** Events per group at most; the service's own limit by default. */
  readonly maxGroupEvents?: number;
  /** How long the service may wait to fill a group; it does not by default. */
  readonly maxLingerMs?: number;
  /** How often an idle stream shows that it lives; the service's own by default. */
  readonly heartbeatIntervalMs?: number;
  /** Shown to operators; host name and process id by default (nothing in browsers). */
  readonly clientLabel?: string;
  /** Called before each wait for a reconnection. `attempt` counts from 1, anew after a session that brought events. */
  readonly onReconnect?: (attempt: number, delayMs: number, error: EventStreamError) => void;
  /** Called when a session has begun. */
  readonly onStarted?: (epoch: bigint, startAfterId: bigint) => void;
  /** Takes reports; by default warnings and errors go to the console. */
  readonly log?: Log;
  /** Traces the calls of the handler, such as `tracing()` of `@futoin/eventstream/opentelemetry`. */
  readonly tracing?: Tracing;
  /** Cancels: the receiver ends at once and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options of a receiver of groups. */
export interface GroupReceiveOptions extends ReceiverOptions {
  /** Where a new registration starts; with the oldest event kept by default. */
  readonly start?: Start;
  /** Begins at `start` although the position may be further; the position stays. */
  readonly replay?: boolean;
  /** Registers the component first; true by default. */
  readonly register?: boolean;
  /** What becomes of another open session of the component; `take-over` by default. */
  readonly conflict?: 'take-over' | 'stand-by' | 'reject';
  /** Events sent and not acknowledged; the service's own limit by default. */
  readonly maxInFlightEvents?: number;
  /** The same in bytes of their data. */
  readonly maxInFlightBytes?: number;
}

/** Options of a reliable receiver. */
export interface ReceiveOptions extends GroupReceiveOptions {
  /** Events handled side by side; 1 by default. More need a `key`. */
  readonly workers?: number;
  /** Events of equal keys (by `Map`'s rules) are handled in order. */
  readonly key?: (event: Event) => unknown;
}

/** Options of a live receiver. */
export interface LiveOptions extends ReceiverOptions {
  /** Where to start; now by default. */
  readonly start?: Start;
  /** Called when events were dropped, with the number of all so far. */
  readonly onDropped?: (total: bigint) => void;
}
