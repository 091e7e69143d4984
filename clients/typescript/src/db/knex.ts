/**
 * Events in your own transaction on any of the databases, with
 * [knex](https://knexjs.org).
 *
 * @module
 */
import type { Knex } from 'knex';

import { EventStreamError } from '../errors.js';
import { insert, UTC, type InsertOptions } from './insert.js';

export { EventStreamError, InvalidEventError } from '../errors.js';
export { JsonText } from '../json.js';
export type { InsertOptions };

// By the dialects of knex: drivers share them.
const TIME: Readonly<Record<string, string>> = {
  postgresql: UTC.postgres,
  mysql: UTC.mysql,
  sqlite3: UTC.sqlite,
};

/**
 * Adds an event in the transaction. It is delivered when that commits, and
 * only then; nothing is begun or committed.
 *
 * @param data any JSON value, `bigint`s included, or `JsonText`; at most 8 MiB of text
 * @throws InvalidEventError before anything is inserted
 * @throws EventStreamError for a database that the service does not serve
 */
export async function addEvent(
  transaction: Knex.Transaction | Knex,
  type: string,
  data: unknown,
  options?: InsertOptions,
): Promise<void> {
  const { dialect } = transaction.client as { dialect: string };
  const utc = TIME[dialect];
  if (utc === undefined) {
    throw new EventStreamError(`the service does not serve databases of ${dialect}`);
  }
  const { sql, values } = insert(utc, ['?', '?'], type, data, options);
  await transaction.raw(sql, values);
}
