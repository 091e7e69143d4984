/**
 * What the client is in Node.js and in browsers alike.
 *
 * @module
 */
import { addEvent, addEvents, type AddOptions } from './add.js';
import { Admin } from './admin.js';
import type { Connection } from './connection.js';
import type { Event, NewEvent } from './event.js';
import type { Consumer } from './gen/futoin/evt/v1/types_pb.js';
import type { Log } from './log.js';
import type { Token } from './connection.js';
import { pollAll, pollOnce, type Page, type PollOptions, type PollRequest } from './poll.js';
import { iterate } from './receiver/iterate.js';
import { LiveReceiver } from './receiver/live.js';
import type {
  GroupHandler,
  GroupReceiveOptions,
  Handler,
  LiveOptions,
  ReceiveOptions,
} from './receiver/options.js';
import { ReliableReceiver } from './receiver/reliable.js';
import type { CallOptions } from './retry.js';
import type { Start } from './start.js';

/** Options of a client, wherever it runs. */
export interface ClientOptions {
  /** Bearer token, or a function that is asked for it before each call. */
  readonly token?: Token;
  /** Takes the reports of receivers; by default warnings and errors go to the console. */
  readonly log?: Log;
}

/** Events over one connection to the service: adding, receiving, polling, and calls of operators. */
export abstract class EventStreamClient {
  /** Calls of operators. */
  readonly admin: Admin;
  /** @internal */
  protected readonly connection: Connection;

  /** @internal */
  protected constructor(connection: Connection) {
    this.connection = connection;
    this.admin = new Admin(connection);
  }

  /**
   * Adds one event and gives its id, when it is durable. For an event bound to
   * your own database transaction there is `addEvent` of
   * `@futoin/eventstream/pg` and its like.
   *
   * @throws InvalidEventError before anything is sent
   * @throws ServiceError after all retries
   */
  addEvent(type: string, data: unknown, options: AddOptions = {}): Promise<bigint> {
    return addEvent(this.connection, type, data, options);
  }

  /** Adds 1 to 1000 events in one transaction, and gives their ids. Errors as of {@link addEvent}. */
  addEvents(events: readonly NewEvent[], options: AddOptions = {}): Promise<bigint[]> {
    return addEvents(this.connection, events, options);
  }

  /** Registers a component for reliable delivery; repeating it is fine. Receivers do it themselves. */
  register(component: string, options: CallOptions & { readonly start?: Start } = {}): Promise<Consumer> {
    return this.connection.register(component, options.start, options);
  }

  /**
   * Gives every event of the component to the handler, in order, at least once,
   * and acknowledges it when the handler is done.
   */
  receive(component: string, handler: Handler, options: ReceiveOptions = {}): ReliableReceiver {
    return new ReliableReceiver(this.connection, component, ofEvents(handler), options, false);
  }

  /** As {@link receive}, for a handler that takes the events of a group together. */
  receiveGroups(
    component: string,
    handler: GroupHandler,
    options: GroupReceiveOptions = {},
  ): ReliableReceiver {
    return new ReliableReceiver(this.connection, component, handler, options, true);
  }

  /**
   * As {@link receive}, for `for await`: an event is handled, and acknowledged,
   * when the next one is asked for. An event in which the loop is left, by
   * `break` or an error, comes again in the next session.
   */
  events(component: string, options: GroupReceiveOptions = {}): AsyncGenerator<Event, void, undefined> {
    return iterate((handler) => new ReliableReceiver(this.connection, component, handler, options, false));
  }

  /** Gives what happens from now on to the handler; may miss events, and counts those it was too slow for. */
  live(handler: Handler, options: LiveOptions = {}): LiveReceiver {
    return new LiveReceiver(this.connection, ofEvents(handler), options, false);
  }

  /** As {@link live}, for a handler that takes the events of a group together. */
  liveGroups(handler: GroupHandler, options: LiveOptions = {}): LiveReceiver {
    return new LiveReceiver(this.connection, handler, options, true);
  }

  /** As {@link live}, for `for await`. */
  liveEvents(options: LiveOptions = {}): AsyncGenerator<Event, void, undefined> {
    return iterate((handler) => new LiveReceiver(this.connection, handler, options, false));
  }

  /**
   * The events behind the component's position, until a poll brings none. Those
   * of a poll are acknowledged by the next one. The component must be registered.
   */
  poll(component: string, options: PollOptions = {}): AsyncGenerator<Event, void, undefined> {
    return pollAll(this.connection, component, options);
  }

  /** One poll. Its `lastId` acknowledges what earlier ones brought. */
  pollOnce(component: string, request: PollRequest = {}): Promise<Page> {
    return pollOnce(this.connection, component, request);
  }

  /** Stops the receivers (finish, acknowledge), then closes the connection. */
  async close(): Promise<void> {
    try {
      await Promise.all([...this.connection.receivers].map((receiver) => receiver.stop()));
    } finally {
      this.connection.close();
      this.disconnect();
    }
  }

  /** The same as {@link close}, at the end of an `await using` scope. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal */
  protected abstract disconnect(): void;
}

function ofEvents(handler: Handler): GroupHandler {
  return ([event], context) => event && handler(event, context);
}
