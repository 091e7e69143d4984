/**
 * Events in your own transaction on SQLite, with
 * [better-sqlite3](https://github.com/WiseLibs/better-sqlite3), or with the
 * `DatabaseSync` of Node.js itself (`node:sqlite`).
 *
 * @module
 */
import { insert, UTC, type InsertOptions } from './insert.js';

export { EventStreamError, InvalidEventError } from '../errors.js';
export { JsonText } from '../json.js';
export type { InsertOptions };

/** A database of better-sqlite3 or `node:sqlite`. */
export interface SqliteDatabase {
  /** Prepares a statement. */
  prepare(sql: string): SqliteStatement;
}

/** A prepared statement. */
export interface SqliteStatement {
  /** Runs it. */
  run(type: string, data: string): unknown;
}

/**
 * Adds an event in the transaction that is open on the database. It is
 * delivered when that commits, and only then; nothing is begun or committed.
 *
 * @param data any JSON value, `bigint`s included, or `JsonText`; at most 8 MiB of text
 * @throws InvalidEventError before anything is inserted
 */
export function addEvent(
  database: SqliteDatabase,
  type: string,
  data: unknown,
  options?: InsertOptions,
): void {
  const { sql, values } = insert(UTC.sqlite, ['?', '?'], type, data, options);
  database.prepare(sql).run(...values);
}
