/**
 * `recorder.sh ADDRESS COMPONENT [--count N] [--quiet]`: prints the id of each
 * event that it handled; stops after N of them, or when stdin closes.
 */
import { parseArgs } from 'node:util';

import { EventStream, type Event } from '@futoin/eventstream';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { count: { type: 'string' }, quiet: { type: 'boolean', default: false } },
});
const [address, component] = positionals;
if (address === undefined || component === undefined) {
  throw new Error('usage: recorder.sh ADDRESS COMPONENT [--count N] [--quiet]');
}

const most = Number(values.count ?? Infinity);
let events = 0;
let first = 0;
let last = 0;

const stream = new EventStream(`http://${address}`, { log: () => undefined });
const receiver = stream.receive(component, handle, { start: 'oldest' });
process.stdin.on('end', stop).resume();
await receiver.done;
await stream.close();
process.stdin.destroy();
console.error(JSON.stringify({ events, seconds: (last - first) / 1000 }));

function handle({ id }: Event): void {
  last = performance.now();
  first ||= last;
  if (!values.quiet) {
    process.stdout.write(`${id}\n`);
  }
  if (++events >= most) {
    stop();
  }
}

function stop(): void {
  void receiver.stop();
}
