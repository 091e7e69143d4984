import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { InvalidEventError, JsonText, ServiceError, type Event } from '@futoin/eventstream';

import { component, eventType, Inbox, serviceOn } from './services.js';

const stream = serviceOn('SQLITE');
after(() => stream.close());

const EXACT = '{"n":9007199254740993,"s":"😀 it\'s \\"quoted\\""}';

test('events come exact, in order, once each', async () => {
  const [name, type] = [component(), eventType()];
  const inbox = new Inbox<Event>();
  await using receiver = stream.receive(name, inbox.add, { start: 'now', want: [type] });
  await stream.register(name, { start: 'now' });
  const one = await stream.addEvent(type, new JsonText(EXACT));
  const more = await stream.addEvents([
    { type, data: { n: 9007199254740993n, list: [1, null, -0.5] } },
    { type, data: 'text' },
  ]);
  const events = await inbox.atLeast(3);
  assert.deepEqual(
    events.map(({ id }) => id),
    [one, ...more],
  );
  const [exact] = events;
  assert.equal(exact?.dataJson, EXACT);
  assert.deepEqual(exact.data, { n: 9007199254740993n, s: '😀 it\'s "quoted"' });
  assert.equal(events[1]?.dataJson, '{"n":9007199254740993,"list":[1,null,-0.5]}');
  assert.equal(events[2]?.data, 'text');
  assert.ok(exact.ts instanceof Date);
  await receiver.stop();
  assert.equal((await consumer(name))?.position, more[1]);
});

test('for await: what was left comes again', async () => {
  const [name, type] = [component(), eventType()];
  await stream.register(name, { start: 'now' });
  const ids = await stream.addEvents([1, 2, 3].map((data) => ({ type, data })));
  const options = { want: [type] };
  for await (const event of stream.events(name, options)) {
    if (event.id === ids[1]) {
      break;
    }
  }
  assert.equal((await consumer(name))?.position, ids[0]);
  const again: bigint[] = [];
  for await (const event of stream.events(name, options)) {
    again.push(event.id);
    if (event.id === ids[2]) {
      break;
    }
  }
  assert.deepEqual(again, ids.slice(1));
});

test('a cancelled iteration throws the reason', async () => {
  const [name, cancel] = [component(), new AbortController()];
  const reason = new Error('enough');
  const options = { start: 'now', signal: cancel.signal, onStarted: () => cancel.abort(reason) } as const;
  const iteration = async () => {
    for await (const event of stream.events(name, { ...options, want: [eventType()] })) {
      assert.fail(`event ${event.id} came`);
    }
  };
  await assert.rejects(iteration, reason);
});

test('groups are handled together, keys side by side', async () => {
  const [groups, keyed, type] = [component(), component(), eventType()];
  await stream.register(groups, { start: 'now' });
  await stream.register(keyed, { start: 'now' });
  const events = Array.from({ length: 300 }, (_, n) => ({ type, data: { key: n % 7, n } }));
  const ids = await stream.addEvents(events);
  const together = new Inbox<bigint>();
  await using grouped = stream.receiveGroups(groups, (group) => group.forEach(({ id }) => together.add(id)), {
    want: [type],
  });
  const seen = new Inbox<{ key: number; n: number }>();
  const handler = async ({ data }: Event) => {
    const value = data as { key: number; n: number };
    // Keys overtake each other.
    await new Promise((resolve) => setTimeout(resolve, value.key % 3));
    seen.add(value);
  };
  const options = { want: [type], workers: 4, key: ({ data }: Event) => (data as { key: number }).key };
  await using receiver = stream.receive(keyed, handler, options);
  assert.deepEqual(await together.atLeast(ids.length), ids);
  await grouped.stop();
  const values = await seen.atLeast(ids.length);
  for (let key = 0; key < 7; key++) {
    const ofKey = values.filter((value) => value.key === key).map(({ n }) => n);
    assert.deepEqual(
      ofKey,
      ofKey.toSorted((a, b) => a - b),
    );
  }
  await receiver.stop();
  assert.equal((await consumer(keyed))?.position, ids.at(-1));
});

test('live: from now on, nothing kept', async () => {
  const type = eventType();
  const inbox = new Inbox<bigint>();
  let started: () => void;
  const begun = new Promise<void>((resolve) => (started = resolve));
  const options = { want: [type], onStarted: () => started() };
  await using receiver = stream.live(({ id }) => inbox.add(id), options);
  await begun;
  const id = await stream.addEvent(type, null);
  assert.deepEqual(await inbox.atLeast(1), [id]);
  assert.equal(receiver.dropped, 0n);
});

test('polling: to the end, and acknowledged', async () => {
  const [name, type] = [component(), eventType()];
  await stream.register(name, { start: 'now' });
  const ids = await stream.addEvents(Array.from({ length: 25 }, (_, data) => ({ type, data })));
  const polled: bigint[] = [];
  for await (const { id } of stream.poll(name, { want: [type], maxEvents: 10 })) {
    polled.push(id);
  }
  assert.deepEqual(polled, ids);
  const page = await stream.pollOnce(name, { want: [type] });
  assert.deepEqual(page.events, []);
  assert.ok(page.lastId >= (ids.at(-1) ?? 0n));
});

test('a repeated request adds nothing', async () => {
  const type = eventType();
  const requestId = crypto.randomUUID();
  const first = await stream.addEvent(type, 1, { requestId });
  assert.equal(await stream.addEvent(type, 1, { requestId }), first);
  await assert.rejects(stream.addEvent(type, 2, { requestId }), {
    name: 'ServiceError',
    code: 'ALREADY_EXISTS',
    reason: 'REQUEST_ID_REUSED',
  });
});

test('an import comes whole, and is resumed for nothing', async () => {
  const type = eventType();
  const batches = Array.from({ length: 20 }, (_, n) => ({
    events: Array.from({ length: 50 }, (_, k) => ({ type, data: n * 50 + k })),
    requestId: crypto.randomUUID(),
  }));
  const imported = await stream.importEvents(batches);
  assert.deepEqual([imported.batches, imported.events], [20, 1000]);
  const again = await stream.importEvents(batches);
  assert.deepEqual([again.firstId, again.lastId], [imported.firstId, imported.lastId]);
});

test('bad events are refused before they are sent', async () => {
  await assert.rejects(stream.addEvent('order', 1), { field: 'type', rule: /A-Z_/ });
  await assert.rejects(stream.addEvent('ORDER', new JsonText('{')), InvalidEventError);
  await assert.rejects(stream.addEvent('ORDER', 'x'.repeat(8 * 1024 * 1024)), {
    field: 'data',
    rule: /8388608/,
  });
  await assert.rejects(stream.addEvents([]), { field: 'events' });
  const tooMuch = Array.from({ length: 3 }, () => ({ type: 'ORDER', data: 'x'.repeat(6 * 1024 * 1024) }));
  await assert.rejects(stream.addEvents(tooMuch), { field: 'events', rule: /bytes together/ });
});

test('the largest event travels both ways', { timeout: 60_000 }, async () => {
  const [name, type] = [component(), eventType()];
  await stream.register(name, { start: 'now' });
  const data = 'x'.repeat(8 * 1024 * 1024 - 2);
  await stream.addEvent(type, data);
  for await (const event of stream.poll(name, { want: [type] })) {
    assert.equal(event.data, data);
  }
  const inbox = new Inbox<number>();
  await stream.admin.seek(name, { afterId: 0n });
  await using receiver = stream.receive(name, ({ dataJson }) => inbox.add(dataJson.length), { want: [type] });
  assert.deepEqual(await inbox.atLeast(1), [8 * 1024 * 1024]);
  await receiver.stop();
});

test('operators see, seek and forget consumers', async () => {
  const [name, type] = [component(), eventType()];
  const id = await stream.addEvent(type, 1);
  await stream.register(name);
  assert.equal((await stream.admin.seek(name, { afterId: id })).position, id);
  assert.equal((await consumer(name))?.position, id);
  const status = await stream.admin.status();
  assert.equal(status.database, 'sqlite');
  assert.ok(status.frontierId >= id);
  await stream.admin.unregister(name);
  assert.equal(await consumer(name), undefined);
  await assert.rejects(stream.pollOnce(name), (error) => {
    assert.ok(error instanceof ServiceError);
    assert.deepEqual([error.code, error.reason], ['NOT_FOUND', 'NOT_REGISTERED']);
    return true;
  });
  await assert.rejects(stream.admin.seek('no-name', 'oldest'), {
    code: 'INVALID_ARGUMENT',
    field: 'component',
  });
});

async function consumer(name: string) {
  for await (const consumer of stream.admin.consumers()) {
    if (consumer.component === name) {
      return consumer;
    }
  }
  return undefined;
}
