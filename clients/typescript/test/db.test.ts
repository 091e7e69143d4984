import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { InvalidEventError, JsonText } from '@futoin/eventstream';
import * as inBetterSqlite3 from '@futoin/eventstream/better-sqlite3';
import * as inKnex from '@futoin/eventstream/knex';
import * as inMysql2 from '@futoin/eventstream/mysql2';
import * as inPg from '@futoin/eventstream/pg';
import Database from 'better-sqlite3';
import knex, { type Knex } from 'knex';
import mysqlCallbacks from 'mysql2';
import mysql from 'mysql2/promise';
import pg from 'pg';

import { component, eventType, given, serviceOn } from './services.js';

const EXACT = '{"n":9007199254740993,"s":"😀 it\'s \\"quoted\\" \\\\ ?"}';
const VALUE = { n: 9007199254740993n, s: '😀 it\'s "quoted" \\ ?' };

/** What every library is put to: transactions of an application, with an order and its event. */
interface Application {
  readonly library: string;
  readonly engine: 'SQLITE' | 'POSTGRES' | 'MYSQL';
  /** Makes a table of orders of its own. */
  prepare(table: string): Promise<void>;
  /** One transaction: an order, an event; committed or rolled back. */
  order(table: string, type: string, data: unknown, commit: boolean, events?: string): Promise<void>;
  count(table: string): Promise<number>;
  close(): Promise<void>;
}

class WithPg implements Application {
  readonly library = 'pg';
  readonly engine = 'POSTGRES';
  readonly #pool = new pg.Pool({ connectionString: given('TEST_POSTGRES_DB') });

  async prepare(table: string): Promise<void> {
    await this.#pool.query(`CREATE TABLE ${table} (item TEXT)`);
  }

  async order(table: string, type: string, data: unknown, commit: boolean, events?: string): Promise<void> {
    const client = await this.#pool.connect();
    try {
      await client.query('BEGIN');
      await client.query(`INSERT INTO ${table} VALUES ($1)`, ['tea']);
      await inPg.addEvent(client, type, data, events === undefined ? {} : { table: events });
      await client.query(commit ? 'COMMIT' : 'ROLLBACK');
    } catch (error) {
      await client.query('ROLLBACK');
      throw error;
    } finally {
      client.release();
    }
  }

  async count(table: string): Promise<number> {
    const { rows } = await this.#pool.query<{ n: string }>(`SELECT count(*) AS n FROM ${table}`);
    return Number(rows[0]?.n);
  }

  close(): Promise<void> {
    return this.#pool.end();
  }
}

class WithMysql2 implements Application {
  readonly library: string;
  readonly engine = 'MYSQL';
  readonly #callbacks: mysqlCallbacks.Connection;
  readonly #given: 'callbacks' | 'promises';

  constructor(form: 'callbacks' | 'promises') {
    this.library = `mysql2 with ${form}`;
    this.#given = form;
    this.#callbacks = mysqlCallbacks.createConnection(given('TEST_MYSQL_DB'));
  }

  async prepare(table: string): Promise<void> {
    await this.#promises.query(`CREATE TABLE ${table} (item TEXT)`);
  }

  async order(table: string, type: string, data: unknown, commit: boolean, events?: string): Promise<void> {
    const connection = this.#promises;
    await connection.beginTransaction();
    try {
      await connection.execute(`INSERT INTO ${table} VALUES (?)`, ['tea']);
      const which = this.#given === 'callbacks' ? this.#callbacks : connection;
      await inMysql2.addEvent(which, type, data, events === undefined ? {} : { table: events });
      await (commit ? connection.commit() : connection.rollback());
    } catch (error) {
      await connection.rollback();
      throw error;
    }
  }

  async count(table: string): Promise<number> {
    const [rows] = await this.#promises.query<mysql.RowDataPacket[]>(`SELECT count(*) AS n FROM ${table}`);
    return Number(rows[0]?.n);
  }

  close(): Promise<void> {
    return this.#promises.end();
  }

  get #promises() {
    return this.#callbacks.promise();
  }
}

class WithBetterSqlite3 implements Application {
  readonly library = 'better-sqlite3';
  readonly engine = 'SQLITE';
  readonly #db = new Database(given('TEST_SQLITE_DB'), { timeout: 10_000 });

  // eslint-disable-next-line @typescript-eslint/require-await -- this library is synchronous
  async prepare(table: string): Promise<void> {
    this.#db.exec(`CREATE TABLE ${table} (item TEXT)`);
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async order(table: string, type: string, data: unknown, commit: boolean, events?: string): Promise<void> {
    const rolledBack = new Error('rolled back');
    const transaction = this.#db.transaction(() => {
      this.#db.prepare(`INSERT INTO ${table} VALUES (?)`).run('tea');
      inBetterSqlite3.addEvent(this.#db, type, data, events === undefined ? {} : { table: events });
      if (!commit) {
        throw rolledBack;
      }
    });
    try {
      transaction.immediate();
    } catch (error) {
      if (error !== rolledBack) {
        throw error;
      }
    }
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async count(table: string): Promise<number> {
    return this.#db.prepare<[], number>(`SELECT count(*) FROM ${table}`).pluck().get() ?? 0;
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async close(): Promise<void> {
    this.#db.close();
  }
}

class WithKnex implements Application {
  readonly library: string;
  readonly engine: Application['engine'];
  readonly #knex: Knex;

  constructor(engine: Application['engine'], config: Knex.Config) {
    this.library = `knex on ${engine}`;
    this.engine = engine;
    this.#knex = knex(config);
  }

  prepare(table: string): Promise<void> {
    return this.#knex.schema.createTable(table, (columns) => columns.text('item'));
  }

  async order(table: string, type: string, data: unknown, commit: boolean, events?: string): Promise<void> {
    const transaction = await this.#knex.transaction();
    try {
      await transaction(table).insert({ item: 'tea' });
      await inKnex.addEvent(transaction, type, data, events === undefined ? {} : { table: events });
    } catch (error) {
      await transaction.rollback();
      throw error;
    }
    await (commit ? transaction.commit() : transaction.rollback());
  }

  async count(table: string): Promise<number> {
    const [row] = await this.#knex(table).count<{ n: number | string }[]>({ n: '*' });
    return Number(row?.n);
  }

  close(): Promise<void> {
    return this.#knex.destroy();
  }
}

const filename = given('TEST_SQLITE_DB');
const applications: Application[] = [
  new WithPg(),
  new WithMysql2('promises'),
  new WithMysql2('callbacks'),
  new WithBetterSqlite3(),
  new WithKnex('POSTGRES', { client: 'pg', connection: given('TEST_POSTGRES_DB') }),
  new WithKnex('MYSQL', { client: 'mysql2', connection: given('TEST_MYSQL_DB') }),
  new WithKnex('SQLITE', {
    client: 'better-sqlite3',
    connection: { filename },
    useNullAsDefault: true,
  }),
];

after(async () => {
  for (const application of applications) {
    await application.close();
  }
});

for (const [index, application] of applications.entries()) {
  const { library, engine } = application;
  const orders = `t_orders_${index}_${Date.now().toString(36)}`;

  test(
    `${library}: a commit delivers, a rollback does not, the data is exact`,
    { timeout: 60_000 },
    async () => {
      await using stream = serviceOn(engine);
      const [name, type] = [component(), eventType()];
      await stream.register(name, { start: 'now' });
      await application.prepare(orders);
      await application.order(orders, type, 'never', false);
      await application.order(orders, type, VALUE, true);
      await application.order(orders, type, new JsonText(EXACT), true, 'evt_queue');
      await application.order(orders, type, 'never', false);
      const delivered: string[] = [];
      for await (const event of stream.events(name, { want: [type] })) {
        delivered.push(event.dataJson);
        if (delivered.length === 1) {
          assert.deepEqual(event.data, VALUE);
          // Behind the last rollback: whatever was to come comes before it.
          await stream.addEvent(type, 'last');
        } else if (event.data === 'last') {
          break;
        }
      }
      assert.deepEqual(delivered, [EXACT, EXACT, '"last"']);
      assert.equal(await application.count(orders), 2);
    },
  );

  test(`${library}: what breaks a rule is refused before the insert`, async () => {
    const refused = async (field: string, type: string, data: unknown, table?: string) => {
      await assert.rejects(application.order(orders, type, data, true, table), (error) => {
        assert.ok(error instanceof InvalidEventError);
        assert.equal(error.field, field);
        assert.notEqual(error.rule, '');
        return true;
      });
    };
    const before = await application.count(orders);
    await refused('type', 'order', 1);
    await refused('type', 'ORDER_WITH_A_LONG_NAME', 1);
    await refused('data', 'ORDER', new JsonText('{"a":}'));
    await refused('data', 'ORDER', undefined);
    await refused('data', 'ORDER', '😀'.repeat(2 * 1024 * 1024));
    await refused('table', 'ORDER', 1, 'evt_queue; --');
    assert.equal(await application.count(orders), before);
  });

  test(`${library}: what the database refuses is the driver's error`, async () => {
    await assert.rejects(application.order(orders, 'ORDER', 1, true, 'no_such_table'), (error) => {
      assert.match(String(error), /no_such_table/);
      assert.ok(!(error instanceof InvalidEventError));
      return true;
    });
  });
}
