/**
 * Operators' calls.
 *
 * @module
 */
import { present, type Connection } from './connection.js';
import type { GetStatusResponse, SkipFrontierResponse } from './gen/futoin/evt/v1/admin_pb.js';
import type { Consumer } from './gen/futoin/evt/v1/types_pb.js';
import { once, type CallOptions } from './retry.js';
import { startAt, type Start } from './start.js';

/** Whose consumer is meant. */
export interface OwnerOptions extends CallOptions {
  /** Its owner; the caller by default. Another user's needs the administer right. */
  readonly user?: string;
}

/** The state of the stream and the lifecycle of its consumers: `stream.admin`. */
export class Admin {
  readonly #connection: Connection;

  /** @internal */
  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** The stream at a glance: how far it is, and what holds events back. */
  status(options: CallOptions = {}): Promise<GetStatusResponse> {
    return once(options, (attempt) => this.#connection.admin.getStatus({}, attempt));
  }

  /** The consumers visible to the caller, page by page. */
  async *consumers(options: CallOptions = {}): AsyncGenerator<Consumer, void, undefined> {
    let pageToken = '';
    do {
      const request = { pageToken };
      const page = await once(options, (attempt) => this.#connection.admin.listConsumers(request, attempt));
      yield* page.consumers;
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  /** Moves a consumer's position, backwards too, and ends its session. */
  async seek(
    component: string,
    start: Start,
    { user = '', ...options }: OwnerOptions = {},
  ): Promise<Consumer> {
    const request = { component, user, start: startAt(start) };
    const answer = await once(options, (attempt) => this.#connection.admin.seekConsumer(request, attempt));
    return present(answer.consumer);
  }

  /** Forgets a consumer, so that its position holds no events back any more. */
  async unregister(component: string, { user = '', ...options }: OwnerOptions = {}): Promise<void> {
    const request = { component, user };
    await once(options, (attempt) => this.#connection.admin.unregisterConsumer(request, attempt));
  }

  /**
   * Gives up on events up to `to` that are not visible yet: they are LOST, even
   * if they are committed later. For a transaction that cannot be ended.
   */
  skipFrontier(to: bigint, reason: string, options: CallOptions = {}): Promise<SkipFrontierResponse> {
    const request = { to, reason, acceptLoss: true };
    return once(options, (attempt) => this.#connection.admin.skipFrontier(request, attempt));
  }
}
