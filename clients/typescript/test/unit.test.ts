import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventStream, EventStreamError, type Event } from '@futoin/eventstream';

import { checkedData, checkedTable, checkedType } from '../dist/check.js';
import { JsonText, parseJson, stringifyJson } from '../dist/json.js';
import { Queue } from '../dist/receiver/queue.js';
import { Work } from '../dist/receiver/work.js';
import { delayMs } from '../dist/retry.js';
import { uuid } from '../dist/add.js';
import { deferred } from './services.js';

test('integers are exact, other numbers are numbers', () => {
  const text = '[9007199254740993,-9007199254740993,9007199254740991,1,-0.5,1e3,1e400,12345678901234567890]';
  assert.deepEqual(parseJson(text), [
    9007199254740993n,
    -9007199254740993n,
    9007199254740991,
    1,
    -0.5,
    1000,
    Infinity,
    12345678901234567890n,
  ]);
});

test('a value and its text are the same again', () => {
  const value = { a: [1n << 80n, null, true, 'x\u0000😀"\\'], b: {}, 'a key': -1.5 };
  const text = stringifyJson(value) ?? '';
  assert.deepEqual(parseJson(text), value);
  assert.equal(text, '{"a":[1208925819614629174706176,null,true,"x\\u0000😀\\"\\\\"],"b":{},"a key":-1.5}');
});

test('texts that JSON.parse takes are taken', () => {
  assert.deepEqual(parseJson('{"b":1,"a":2,"b":3}'), { b: 3, a: 2 });
  assert.deepEqual(parseJson(' 1.0\n'), 1);
  assert.equal(parseJson('"\\ud800"'), '\ud800');
  const deep = `${'['.repeat(4000)}${']'.repeat(4000)}`;
  assert.ok(Array.isArray(parseJson(deep)));
  const prototype = parseJson('{"__proto__":{"polluted":1}}') as object;
  assert.deepEqual(Object.keys(prototype), ['__proto__']);
  assert.equal('polluted' in prototype, false);
});

test('texts that are no JSON are refused', () => {
  for (const text of ['', '{', '01', "{'a':1}", '[1,]', 'NaN', '"\n"', '1 2']) {
    assert.throws(() => parseJson(text), SyntaxError, text);
    assert.throws(() => checkedData(new JsonText(text)), { field: 'data' }, text);
  }
  assert.throws(() => checkedData(new JsonText('"\ud800"')), { rule: 'must be well-formed Unicode' });
  assert.throws(() => checkedData(() => 1), { rule: 'must be JSON, is function' });
});

test('ready text stays as it is', () => {
  const text = ' {"b": 1,\n"a": 1.0, "b": 2} ';
  assert.equal(checkedData(new JsonText(text)), text);
});

test('the size is that of UTF-8', () => {
  const most = `"${'x'.repeat(8 * 1024 * 1024 - 2)}"`;
  assert.equal(checkedData(new JsonText(most)), most);
  assert.throws(() => checkedData(new JsonText(`${most} `)), { rule: /8388608 bytes of JSON, is 8388609/ });
  assert.throws(() => checkedData('é'.repeat(4 * 1024 * 1024)), { field: 'data' });
});

test('types and tables have their rules', () => {
  assert.equal(checkedType('ORDER_NEW'), 'ORDER_NEW');
  for (const type of ['', 'order', 'ORDER1', 'ORDER\n', 'ABCDEFGHIJKLMNOPQ']) {
    assert.throws(() => checkedType(type), { name: 'InvalidEventError', field: 'type' });
  }
  assert.equal(checkedTable('app.evt_queue2'), 'app.evt_queue2');
  for (const table of ['', 'a.b.c', 'a b', '"a"', 'a;', '.a', 'a.']) {
    assert.throws(() => checkedTable(table), { field: 'table' });
  }
});

test('delays double, are drawn from the upper half, and end at the greatest', () => {
  const backoff = { initialMs: 100, maxMs: 1000 };
  for (const [attempt, full] of [
    [1, 100],
    [2, 200],
    [4, 800],
    [5, 1000],
    [5000, 1000],
  ] as const) {
    for (let draw = 0; draw < 50; draw++) {
      const delay = delayMs(attempt, backoff);
      assert.ok(delay >= full / 2 && delay <= full, `${delay}`);
    }
  }
});

test('addresses have their forms', () => {
  for (const address of ['127.0.0.1:50051', 'ftp://host', 'unix:relative', '']) {
    assert.throws(() => new EventStream(address), EventStreamError, address);
  }
});

test('request ids are UUIDs of version 4', () => {
  assert.match(uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(uuid(), uuid());
});

test('a queue gives everything back in order', () => {
  const queue = new Queue<number>();
  const out: (number | undefined)[] = [];
  for (let n = 0; n < 10_000; n++) {
    queue.push(n);
    if (n % 3 > 0) {
      out.push(queue.shift());
    }
  }
  while (queue.size > 0) {
    assert.equal(queue.first, out.length);
    out.push(queue.shift());
  }
  assert.deepEqual(
    out,
    Array.from({ length: 10_000 }, (_, n) => n),
  );
  assert.equal(queue.shift(), undefined);
});

function worksOf(workers: number) {
  const calls = new Map<string, ReturnType<typeof deferred<boolean>>>();
  const positions: bigint[] = [];
  const work = new Work({
    workers,
    keyOf: ({ events }) => (events[0] as unknown as string).charAt(0),
    handle: ({ events }) => {
      const call = deferred<boolean>();
      calls.set(events[0] as unknown as string, call);
      return call.promise;
    },
    onPosition: (position) => positions.push(position),
    onFailed: (error) => assert.fail(error),
  });
  const add = (name: string, position: bigint) =>
    work.add((name === '' ? [] : [name]) as unknown as Event[], position);
  const done = async (name: string) => {
    calls.get(name)?.resolve(true);
    await new Promise(setImmediate);
  };
  return { work, calls, positions, add, done };
}

test('keys are handled side by side, positions have no gap', async () => {
  const { work, calls, positions, add, done } = worksOf(2);
  add('a1', 1n);
  add('a2', 2n);
  add('b1', 3n);
  add('c1', 4n);
  add('', 9n);
  assert.deepEqual([...calls.keys()], ['a1', 'b1']);
  await done('b1');
  assert.deepEqual([...calls.keys()], ['a1', 'b1', 'c1']);
  await done('c1');
  assert.deepEqual(positions, []);
  await done('a1');
  assert.deepEqual(positions, [1n]);
  await done('a2');
  assert.deepEqual(positions, [1n, 9n]);
  await work.idle();
  assert.equal(work.size, 0);
});

test('what has not begun is forgotten, what has is finished', async () => {
  const { work, calls, positions, add, done } = worksOf(1);
  add('a1', 1n);
  add('a2', 2n);
  work.close();
  add('a3', 3n);
  await done('a1');
  await work.idle();
  assert.deepEqual([[...calls.keys()], positions], [['a1'], [1n]]);
});
