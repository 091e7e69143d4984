/**
 * Reading by polls.
 *
 * @module
 */
import { durationFromMs } from '@bufbuild/protobuf/wkt';

import type { Connection } from './connection.js';
import { Event } from './event.js';
import { retried, type CallOptions } from './retry.js';
import { startAt, wanted, type Start } from './start.js';

/** What to poll for. */
export interface PollOptions extends CallOptions {
  /** Types of interest; every type by default. */
  readonly want?: readonly string[];
  /** Events per poll; at most 1000, and the service's own number by default. */
  readonly maxEvents?: number;
  /** Bytes of data per poll, about; 1 MiB by default. */
  readonly maxBytes?: number;
  /** How long to wait for a first event, in milliseconds, a minute at most; not at all by default. */
  readonly maxWaitMs?: number;
}

/** One poll. */
export interface PollRequest extends PollOptions {
  /** The last event processed, which acknowledges it; the stored position by default. */
  readonly lastId?: bigint;
  /** Fencing: refuses the poll unless it is the consumer's epoch. */
  readonly epoch?: bigint;
  /** For the component `LIVE` only: where to start. */
  readonly start?: Start;
}

/** What a poll brought. */
export interface Page {
  /** In the order of the stream. */
  readonly events: readonly Event[];
  /** To be given to the next poll: it covers events that were filtered out, too. */
  readonly lastId: bigint;
  /** More were ready than fitted. */
  readonly more: boolean;
  /** The consumer's epoch. */
  readonly epoch: bigint;
}

/** @internal */
export async function pollOnce(
  connection: Connection,
  component: string,
  request: PollRequest,
): Promise<Page> {
  const { want, start, maxWaitMs = 0 } = request;
  const message = {
    component,
    maxEvents: request.maxEvents ?? 0,
    maxBytes: request.maxBytes ?? 0,
    ...(maxWaitMs > 0 && { maxWait: durationFromMs(maxWaitMs) }),
    ...(want && { want: wanted(want) }),
    ...(start !== undefined && { start: startAt(start) }),
    ...(request.lastId !== undefined && { lastId: request.lastId }),
    ...(request.epoch !== undefined && { epoch: request.epoch }),
  };
  const answer = await retried(request, (attempt) =>
    // The time for waiting is not time for the call.
    connection.poll.pollEvents(message, { ...attempt, timeoutMs: attempt.timeoutMs + maxWaitMs }),
  );
  const events = answer.events.map((event) => new Event(event));
  return { events, lastId: answer.lastId, more: answer.more, epoch: answer.epoch };
}

/** @internal */
export async function* pollAll(
  connection: Connection,
  component: string,
  options: PollOptions,
): AsyncGenerator<Event, void, undefined> {
  let page = await pollOnce(connection, component, options);
  while (page.events.length > 0 || page.more) {
    yield* page.events;
    page = await pollOnce(connection, component, { ...options, lastId: page.lastId, epoch: page.epoch });
  }
}
