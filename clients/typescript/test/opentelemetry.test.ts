import assert from 'node:assert/strict';
import { test } from 'node:test';

import { tracing } from '@futoin/eventstream/opentelemetry';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';

import { component, eventType, Inbox, serviceOn } from './services.js';

test('a span per call of the handler', async () => {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const [name, type] = [component(), eventType()];
  await using stream = serviceOn('SQLITE');
  await stream.register(name, { start: 'now' });
  const id = await stream.addEvent(type, 1);
  const inbox = new Inbox<number>();
  const handler = (_: unknown, { attempt }: { attempt: number }) => {
    inbox.add(attempt);
    if (attempt === 1) {
      throw new Error('not yet');
    }
  };
  await using receiver = stream.receive(name, handler, {
    want: [type],
    backoff: { initialMs: 1 },
    log: () => undefined,
    tracing: tracing(provider.getTracer('test')),
  });
  await inbox.atLeast(2);
  await receiver.stop();
  const [failed, handled] = exporter.getFinishedSpans();
  assert.equal(handled?.name, `process ${name}`);
  assert.equal(handled.kind, SpanKind.CONSUMER);
  assert.deepEqual(handled.attributes, {
    'messaging.system': 'futoin_eventstream',
    'messaging.destination.name': name,
    'messaging.operation.type': 'process',
    'messaging.message.id': String(id),
    'futoin_eventstream.attempt': 2,
  });
  assert.equal(handled.status.code, SpanStatusCode.UNSET);
  assert.equal(failed?.status.code, SpanStatusCode.ERROR);
  assert.equal(failed.events[0]?.attributes?.['exception.message'], 'not yet');
  await provider.shutdown();
});
