/**
 * The client in browsers, over gRPC-Web.
 *
 * @module
 */
import { createGrpcWebTransport } from '@connectrpc/connect-web';

import { EventStreamClient, type ClientOptions } from './client.js';
import { authorized, Connection } from './connection.js';
import { consoleLog } from './log.js';

export * from './exports.js';

/** Options of a client in a browser. */
export type EventStreamOptions = ClientOptions;

/** A client of the service. */
export class EventStream extends EventStreamClient {
  /** @param address `http://host:port` or `https://host:port`, or any address from which it is proxied */
  constructor(address: string, options: EventStreamOptions = {}) {
    const transport = createGrpcWebTransport({
      baseUrl: address,
      interceptors: options.token === undefined ? [] : [authorized(options.token)],
    });
    super(new Connection(transport, options.log ?? consoleLog, ''));
  }

  /** @internal */
  // eslint-disable-next-line @typescript-eslint/no-empty-function -- the browser owns its connections
  protected override disconnect(): void {}
}
