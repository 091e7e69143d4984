/**
 * One push stream, read until it ends.
 *
 * @module
 */
import { durationMs } from '@bufbuild/protobuf/wkt';

import { ServiceError } from '../errors.js';
import type {
  EventGroup,
  ReadyToReceiveRequest,
  ReadyToReceiveResponse,
  SubscriptionStarted,
} from '../gen/futoin/evt/v1/push_pb.js';
import { Watch } from './watch.js';

const HEARTBEAT_MS = 30_000;

/** Opens a push stream. */
export type OpenStream = (
  request: ReadyToReceiveRequest,
  signal: AbortSignal,
) => AsyncIterable<ReadyToReceiveResponse>;

type Payload = ReadyToReceiveResponse['payload'];

/** Takes what a stream brings. */
export interface Visitor {
  started(started: SubscriptionStarted): void;
  /** A promise makes the reading wait. */
  group(group: EventGroup): Promise<void> | undefined;
  ending(reason: string): void;
}

export class Subscription {
  readonly #open: OpenStream;
  readonly #request: ReadyToReceiveRequest;
  readonly #abort = new AbortController();
  #ended: { error: Error | undefined } | undefined;

  constructor(open: OpenStream, request: ReadyToReceiveRequest) {
    this.#open = open;
    this.#request = request;
  }

  /** Ends the stream; {@link read} then gives the error, or none. */
  end(error?: Error): void {
    this.#ended ??= { error };
    this.#abort.abort();
  }

  /** Reads to the end, and gives its reason: unset only when {@link end} said so. */
  async read(visitor: Visitor): Promise<Error | undefined> {
    const asked = this.#request.heartbeatInterval;
    const watch = new Watch(asked ? durationMs(asked) : HEARTBEAT_MS, () =>
      this.end(new ServiceError('UNAVAILABLE', 'the service has gone silent')),
    );
    try {
      for await (const { payload } of this.#open(this.#request, this.#abort.signal)) {
        if (this.#ended) {
          break;
        }
        watch.heard();
        await this.#give(payload, visitor, watch);
      }
      this.end(new ServiceError('UNAVAILABLE', 'the service ended the stream'));
    } catch (cause) {
      this.end(ServiceError.from(cause));
    } finally {
      watch.end();
    }
    return this.#ended?.error;
  }

  // An error of the visitor is not one of the service.
  async #give(payload: Payload, visitor: Visitor, watch: Watch): Promise<void> {
    try {
      await this.#visit(payload, visitor, watch);
    } catch (error) {
      this.end(error as Error);
    }
  }

  async #visit(payload: Payload, visitor: Visitor, watch: Watch): Promise<void> {
    switch (payload.case) {
      case 'started':
        if (payload.value.heartbeatInterval) {
          watch.every(durationMs(payload.value.heartbeatInterval));
        }
        visitor.started(payload.value);
        break;
      case 'group': {
        const busy = visitor.group(payload.value);
        if (busy) {
          await watch.during(busy);
        }
        break;
      }
      case 'ending':
        visitor.ending(payload.value.reason);
        break;
      case 'heartbeat':
      case undefined:
        break;
    }
  }
}
