// place.js DATABASE_URL ITEM [EVENT_TYPE]: inserts an order, and its event in
// the same transaction. The service need not run meanwhile.
import { addEvent } from '@futoin/eventstream/knex';
import knex from 'knex';

const [url, item, type = 'ORDER_NEW'] = process.argv.slice(2);

const db = knex(configuration(new URL(url)));
if (!(await db.schema.hasTable('orders'))) {
  await db.schema.createTable('orders', (table) => {
    table.increments('id');
    table.text('item').notNullable();
  });
}
await db.transaction(async (transaction) => {
  await transaction('orders').insert({ item });
  const { order } = await transaction('orders').max({ order: 'id' }).first();
  await addEvent(transaction, type, { order, item });
  console.log(`placed order ${order}`);
});
await db.destroy();

function configuration({ protocol, pathname, href }) {
  switch (protocol) {
    case 'postgres:':
      return { client: 'pg', connection: href };
    case 'mysql:':
      return { client: 'mysql2', connection: href };
    default:
      return { client: 'better-sqlite3', connection: { filename: pathname }, useNullAsDefault: true };
  }
}
