/**
 * The calls of the contract, typed errors around them.
 *
 * @module
 */
import { createClient, type Client, type Interceptor, type Transport } from '@connectrpc/connect';

import { EventStreamError } from './errors.js';
import { AdminService } from './gen/futoin/evt/v1/admin_pb.js';
import { GenService } from './gen/futoin/evt/v1/gen_pb.js';
import { PollService } from './gen/futoin/evt/v1/poll_pb.js';
import { PushService } from './gen/futoin/evt/v1/push_pb.js';
import type { Consumer } from './gen/futoin/evt/v1/types_pb.js';
import type { Log } from './log.js';
import type { OpenStream } from './receiver/subscription.js';
import { once, type CallOptions } from './retry.js';
import { startAt, type Start } from './start.js';

/** Bytes of one message, both ways: twice the largest event. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** A fixed token, or a function that is asked before each call. */
export type Token = string | (() => string | Promise<string>);

/** Something that runs until it is stopped. */
export interface Stoppable {
  stop(): Promise<void>;
}

export class Connection {
  /** The receivers that run. */
  readonly receivers = new Set<Stoppable>();
  readonly gen: Client<typeof GenService>;
  readonly poll: Client<typeof PollService>;
  readonly admin: Client<typeof AdminService>;
  readonly #push: Client<typeof PushService>;
  #closed = false;

  constructor(
    transport: Transport,
    readonly log: Log,
    /** What receivers call themselves unless told. */
    readonly label: string,
  ) {
    const guarded = this.#guarded(transport);
    this.gen = createClient(GenService, guarded);
    this.poll = createClient(PollService, guarded);
    this.admin = createClient(AdminService, guarded);
    this.#push = createClient(PushService, guarded);
  }

  /** Lets no call begin any more, repeated ones included. */
  close(): void {
    this.#closed = true;
  }

  readonly openStream: OpenStream = (request, signal) => this.#push.readyToReceive(request, { signal });

  async register(component: string, start: Start | undefined, options: CallOptions): Promise<Consumer> {
    const request = { component, ...(start !== undefined && { start: startAt(start) }) };
    const { consumer } = await once(options, (attempt) => this.poll.registerConsumer(request, attempt));
    return present(consumer);
  }

  async ack(component: string, lastId: bigint, epoch: bigint, options: CallOptions): Promise<bigint> {
    const { ackedId } = await once(options, (attempt) =>
      this.#push.ack({ component, lastId, epoch }, attempt),
    );
    return ackedId;
  }

  #guarded(transport: Transport): Transport {
    const open = () => {
      if (this.#closed) {
        throw new EventStreamError('the client is closed');
      }
      return transport;
    };
    return {
      unary: (...call) => open().unary(...call),
      stream: (...call) => open().stream(...call),
    };
  }
}

/** A message that the contract promises. */
export function present<T>(message: T | undefined): T {
  if (message === undefined) {
    throw new TypeError('the service left out a message that its contract promises');
  }
  return message;
}

/** Adds the token to each call. */
export function authorized(token: Token): Interceptor {
  return (next) => async (request) => {
    request.header.set('authorization', `Bearer ${typeof token === 'string' ? token : await token()}`);
    return next(request);
  };
}
