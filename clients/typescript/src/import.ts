/**
 * Bulk import: a stream of batches, resumed where it broke off.
 *
 * @module
 */
import type { MessageInitShape } from '@bufbuild/protobuf';

import { checkedBatch, uuid } from './add.js';
import type { Connection } from './connection.js';
import type { NewEvent } from './event.js';
import type { ImportEventsRequestSchema } from './gen/futoin/evt/v1/gen_pb.js';
import { retried, type CallOptions } from './retry.js';

// Batches of one call: what may have to be sent again, and is kept for it.
const CALL_BATCHES = 16;

/** Events that are stored in one transaction: all or none. */
export interface ImportBatch {
  /** 1 to 1000. */
  readonly events: readonly NewEvent[];
  /** A UUID, as of `addEvents`; give one to be able to repeat a whole import. */
  readonly requestId?: string;
}

/** How far an import came. */
export interface Imported {
  /** Batches committed. */
  readonly batches: number;
  /** Events committed. */
  readonly events: number;
  /** ID of the first event; unset when there was none. */
  readonly firstId?: bigint;
  /** ID of the last event. */
  readonly lastId?: bigint;
}

type Message = MessageInitShape<typeof ImportEventsRequestSchema>;

/** @internal */
export async function importEvents(
  connection: Connection,
  batches: Iterable<ImportBatch> | AsyncIterable<ImportBatch>,
  options: CallOptions,
): Promise<Imported> {
  let total: Imported = { batches: 0, events: 0 };
  let messages: Message[] = [];
  for await (const { events, requestId } of batches) {
    messages.push({ events: checkedBatch(events), requestId: requestId ?? uuid() });
    if (messages.length === CALL_BATCHES) {
      total = sum(total, await send(connection, messages, options));
      messages = [];
    }
  }
  return messages.length === 0 ? total : sum(total, await send(connection, messages, options));
}

async function send(connection: Connection, messages: Message[], options: CallOptions): Promise<Imported> {
  const answer = await retried(options, (attempt) =>
    connection.gen.importEvents(asyncIterable(messages), attempt),
  );
  return {
    batches: Number(answer.batchCount),
    events: Number(answer.eventCount),
    firstId: answer.firstId,
    lastId: answer.lastId,
  };
}

// eslint-disable-next-line @typescript-eslint/require-await -- what the transport takes
async function* asyncIterable(messages: Message[]): AsyncIterable<Message> {
  yield* messages;
}

function sum(before: Imported, { batches, events, firstId, lastId }: Imported): Imported {
  const first = before.firstId ?? firstId;
  return {
    batches: before.batches + batches,
    events: before.events + events,
    ...(first !== undefined && { firstId: first }),
    ...(lastId !== undefined && { lastId }),
  };
}
