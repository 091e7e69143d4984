/**
 * Adding events over RPC. Every call has a request id, so that it can be
 * repeated without adding anything twice.
 *
 * @module
 */
import { bytesOf, checkedData, checkedType } from './check.js';
import { MAX_MESSAGE_BYTES, type Connection } from './connection.js';
import { InvalidEventError } from './errors.js';
import type { NewEvent } from './event.js';
import { retried, type CallOptions } from './retry.js';

const MAX_BATCH_EVENTS = 1000;
// The type and the framing of an event, generously.
const FRAME_BYTES = 64;

/** How to add. */
export interface AddOptions extends CallOptions {
  /** A UUID. Adding the same again with the same one, within an hour by default, adds nothing; made if not given. */
  readonly requestId?: string;
}

/** @internal */
export async function addEvent(
  connection: Connection,
  type: string,
  data: unknown,
  options: AddOptions,
): Promise<bigint> {
  const request = { ...checked({ type, data }), requestId: options.requestId ?? uuid() };
  const { id } = await retried(options, (attempt) => connection.gen.addEvent(request, attempt));
  return id;
}

/** @internal */
export async function addEvents(
  connection: Connection,
  events: readonly NewEvent[],
  options: AddOptions,
): Promise<bigint[]> {
  const request = { events: checkedBatch(events), requestId: options.requestId ?? uuid() };
  const { ids } = await retried(options, (attempt) => connection.gen.addEvents(request, attempt));
  return ids;
}

/** @internal */
export function checkedBatch(events: readonly NewEvent[]): { type: string; dataJson: string }[] {
  if (events.length === 0 || events.length > MAX_BATCH_EVENTS) {
    throw new InvalidEventError('events', `must be 1 to ${MAX_BATCH_EVENTS}, are ${events.length}`);
  }
  const batch = events.map(checked);
  const bytes = bytesOf(batch.map(({ dataJson }) => dataJson)) + batch.length * FRAME_BYTES;
  if (bytes > MAX_MESSAGE_BYTES) {
    throw new InvalidEventError(
      'events',
      `must be at most ${MAX_MESSAGE_BYTES} bytes together, are ${bytes}`,
    );
  }
  return batch;
}

/**
 * A random UUID. `crypto.randomUUID` is missing on pages without TLS.
 *
 * @internal
 */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes.set([((bytes[6] ?? 0) & 0x0f) | 0x40], 6);
  bytes.set([((bytes[8] ?? 0) & 0x3f) | 0x80], 8);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

function checked({ type, data }: NewEvent): { type: string; dataJson: string } {
  return { type: checkedType(type), dataJson: checkedData(data) };
}
