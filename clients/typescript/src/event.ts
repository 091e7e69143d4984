/**
 * Events, as they are delivered and as they are added.
 *
 * @module
 */
import { timestampDate } from '@bufbuild/protobuf/wkt';

import type { Event as EventMessage } from './gen/futoin/evt/v1/types_pb.js';
import { parseJson } from './json.js';

/** One event of the stream. It never changes. */
export class Event {
  /** Position in the stream, growing, with gaps. */
  readonly id: bigint;
  /** Type: `^[A-Z_]{1,16}$`. */
  readonly type: string;
  /** The data: JSON, exactly the text that was stored. */
  readonly dataJson: string;
  readonly #message: EventMessage;
  #data: { value: unknown } | undefined;

  /** @internal */
  constructor(message: EventMessage) {
    this.id = message.id;
    this.type = message.type;
    this.dataJson = message.dataJson;
    this.#message = message;
  }

  /**
   * The data as a value, parsed at the first use. Integers that a `number`
   * cannot hold are `bigint`s; other numbers are what JavaScript makes of them.
   */
  get data(): unknown {
    this.#data ??= { value: parseJson(this.dataJson) };
    return this.#data.value;
  }

  /**
   * When the event was stored, by the database's clock: for reference only,
   * never an order. `undefined` when an application stored something that is no time.
   */
  get ts(): Date | undefined {
    return this.#message.ts && timestampDate(this.#message.ts);
  }
}

/** An event to add. */
export interface NewEvent {
  /** Type: `^[A-Z_]{1,16}$`. */
  readonly type: string;
  /** Any JSON value, `bigint`s included, or ready text as {@link JsonText}; at most 8 MiB of text. */
  readonly data: unknown;
}
