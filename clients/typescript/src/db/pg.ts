/**
 * Events in your own transaction on PostgreSQL, with
 * [pg](https://node-postgres.com).
 *
 * @module
 */
import { insert, UTC, type InsertOptions } from './insert.js';

export { EventStreamError, InvalidEventError } from '../errors.js';
export { JsonText } from '../json.js';
export type { InsertOptions };

/** A `Client` or a `PoolClient` of pg. */
export interface PgConnection {
  /** Runs a statement. */
  query(sql: string, values: string[]): Promise<unknown>;
}

/**
 * Adds an event in the transaction that is open on the connection. It is
 * delivered when that commits, and only then; nothing is begun or committed.
 *
 * @param data any JSON value, `bigint`s included, or `JsonText`; at most 8 MiB of text
 * @throws InvalidEventError before anything is inserted
 */
export async function addEvent(
  connection: PgConnection,
  type: string,
  data: unknown,
  options?: InsertOptions,
): Promise<void> {
  const { sql, values } = insert(UTC.postgres, ['$1', '$2'], type, data, options);
  await connection.query(sql, values);
}
