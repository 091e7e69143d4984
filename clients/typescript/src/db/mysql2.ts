/**
 * Events in your own transaction on MySQL and MariaDB, with
 * [mysql2](https://sidorares.github.io/node-mysql2).
 *
 * @module
 */
import { insert, UTC, type InsertOptions } from './insert.js';

export { EventStreamError, InvalidEventError } from '../errors.js';
export { JsonText } from '../json.js';
export type { InsertOptions };

/** A connection of `mysql2/promise`. */
export interface MySqlPromiseConnection {
  /** Runs a prepared statement. */
  execute(sql: string, values: string[]): Promise<unknown>;
}

/** A connection of `mysql2` with callbacks. */
export interface MySqlConnection {
  /** The same connection with promises. */
  promise(): MySqlPromiseConnection;
}

/**
 * Adds an event in the transaction that is open on the connection. It is
 * delivered when that commits, and only then; nothing is begun or committed.
 *
 * @param data any JSON value, `bigint`s included, or `JsonText`; at most 8 MiB of text
 * @throws InvalidEventError before anything is inserted
 */
export async function addEvent(
  connection: MySqlPromiseConnection | MySqlConnection,
  type: string,
  data: unknown,
  options?: InsertOptions,
): Promise<void> {
  const { sql, values } = insert(UTC.mysql, ['?', '?'], type, data, options);
  const promising = 'promise' in connection ? connection.promise() : connection;
  await promising.execute(sql, values);
}
