/**
 * Places in the stream.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';

import { StartAtSchema, WantSchema, type StartAt, type Want } from './gen/futoin/evt/v1/types_pb.js';

/**
 * A place in the stream: before the oldest event kept, at the end (only what
 * comes from now on), after an event, or before the first event of a time.
 */
export type Start = 'oldest' | 'now' | StartAfter | StartTime;

/** After an event. */
export interface StartAfter {
  /** Its id. */
  readonly afterId: bigint;
}

/** Before the first event of a time. */
export interface StartTime {
  /** By the database's clock. */
  readonly time: Date;
}

/** @internal */
export function startAt(start: Start): StartAt {
  return create(StartAtSchema, { at: place(start) });
}

/** @internal */
export function wanted(types: readonly string[]): Want {
  return create(WantSchema, { types: [...types] });
}

function place(start: Start): StartAt['at'] {
  if (start === 'oldest') {
    return { case: 'afterId', value: 0n };
  }
  if (start === 'now') {
    return { case: 'now', value: true };
  }
  return 'afterId' in start
    ? { case: 'afterId', value: start.afterId }
    : { case: 'time', value: timestampFromDate(start.time) };
}
