/**
 * The client in Node.js, over gRPC.
 *
 * @module
 */
import type { SecureClientSessionOptions } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { hostname } from 'node:os';

import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';

import { EventStreamClient, type ClientOptions } from './client.js';
import { authorized, Connection, MAX_MESSAGE_BYTES } from './connection.js';
import { EventStreamError } from './errors.js';
import { importEvents, type ImportBatch, type Imported } from './import.js';
import { consoleLog } from './log.js';
import type { CallOptions } from './retry.js';

export * from './exports.js';
export type { ImportBatch, Imported } from './import.js';

// A connection that does not answer for so long is given up.
const PING_INTERVAL_MS = 20_000;
const PING_TIMEOUT_MS = 10_000;

/** TLS of an `https://` address: PEM texts. */
export interface Tls {
  /** Authorities to trust, instead of those that Node.js brings. */
  readonly ca?: string | Uint8Array;
  /** The client's certificate, with its key. */
  readonly cert?: string | Uint8Array;
  /** Key of the client's certificate. */
  readonly key?: string | Uint8Array;
  /** The name that the service's certificate must have; the address's host by default. */
  readonly serverName?: string;
}

/** Options of a client in Node.js. */
export interface EventStreamOptions extends ClientOptions {
  /** TLS, for `https://`. */
  readonly tls?: Tls;
}

/** A client of the service, over one HTTP/2 connection that is made when it is needed. */
export class EventStream extends EventStreamClient {
  readonly #sessions: Http2SessionManager;

  /**
   * @param address `http://host:port`, `https://host:port` or `unix:/path`
   * @throws EventStreamError for an address of another form
   */
  constructor(address: string, options: EventStreamOptions = {}) {
    const { authority, session } = target(address, options.tls);
    const sessions = new Http2SessionManager(
      authority,
      { pingIntervalMs: PING_INTERVAL_MS, pingTimeoutMs: PING_TIMEOUT_MS },
      session,
    );
    const transport = createGrpcTransport({
      baseUrl: authority,
      sessionManager: sessions,
      readMaxBytes: MAX_MESSAGE_BYTES,
      interceptors: options.token === undefined ? [] : [authorized(options.token)],
    });
    super(new Connection(transport, options.log ?? consoleLog, `${hostname()}:${process.pid}`));
    this.#sessions = sessions;
  }

  /**
   * Imports batches, each in a transaction of its own, in order. It is resumed
   * where a connection broke off.
   *
   * @param batches may be generated while it runs
   * @param options the time-out is for 16 batches
   */
  importEvents(
    batches: Iterable<ImportBatch> | AsyncIterable<ImportBatch>,
    options: CallOptions = {},
  ): Promise<Imported> {
    return importEvents(this.connection, batches, options);
  }

  /** @internal */
  protected override disconnect(): void {
    this.#sessions.abort();
  }
}

function target(address: string, tls: Tls = {}): { authority: string; session: SecureClientSessionOptions } {
  const path = /^unix:(?:\/\/)?(\/.+)$/.exec(address)?.[1];
  if (path !== undefined) {
    return { authority: 'http://localhost', session: { createConnection: () => connectSocket(path) } };
  }
  if (!/^https?:\/\/./.test(address)) {
    throw new EventStreamError(`address must be http://…, https://… or unix:/…, is ${address}`);
  }
  const { serverName, ca, cert, key } = tls;
  return {
    authority: new URL(address).origin,
    session: {
      ...(ca !== undefined && { ca: pem(ca) }),
      ...(cert !== undefined && { cert: pem(cert) }),
      ...(key !== undefined && { key: pem(key) }),
      ...(serverName !== undefined && { servername: serverName }),
    },
  };
}

function pem(text: string | Uint8Array): string | Buffer {
  return typeof text === 'string' ? text : Buffer.from(text);
}
