// react.js ADDRESS [COMPONENT] [EVENT_TYPE]: does something for each order,
// until ctrl-c.
import { EventStream } from '@futoin/eventstream';

const [address, component = 'WAREHOUSE', type = 'ORDER_NEW'] = process.argv.slice(2);

const stream = new EventStream(address);
const receiver = stream.receive(component, pack, {
  want: [type],
  onStarted: () => console.log('waiting for orders'),
});
process.once('SIGINT', () => receiver.stop());
await receiver.done;
await stream.close();

async function pack({ data: { order, item } }) {
  console.log(`packing ${item} for order ${order}`);
}
