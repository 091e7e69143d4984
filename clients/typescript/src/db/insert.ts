/**
 * The one statement of every engine.
 *
 * @module
 */
import { checkedData, checkedTable, checkedType } from '../check.js';

/** Options of an insert. */
export interface InsertOptions {
  /** The events' table, with or without its schema; `evt_queue` by default. */
  readonly table?: string;
}

/** The time in UTC, as each engine has it. */
export const UTC = {
  sqlite: 'CURRENT_TIMESTAMP',
  postgres: "CURRENT_TIMESTAMP AT TIME ZONE 'UTC'",
  mysql: 'UTC_TIMESTAMP()',
} as const;

/** An insert that has been checked. */
export interface Insert {
  readonly sql: string;
  readonly values: [type: string, data: string];
}

/** @throws InvalidEventError when the event or the table's name breaks a rule */
export function insert(
  utc: string,
  [first, second]: [string, string],
  type: string,
  data: unknown,
  { table = 'evt_queue' }: InsertOptions = {},
): Insert {
  return {
    sql: `INSERT INTO ${checkedTable(table)} (type, data, ts) VALUES (${first}, ${second}, ${utc})`,
    values: [checkedType(type), checkedData(data)],
  };
}
