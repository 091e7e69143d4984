/**
 * Spans of OpenTelemetry around the calls of handlers.
 *
 * @module
 */
import { SpanKind, SpanStatusCode, trace, type Attributes, type Tracer } from '@opentelemetry/api';

import type { Delivery, Tracing } from './receiver/options.js';

/**
 * A span of kind consumer per call of the handler, which is its parent:
 *
 * ```ts
 * stream.receive('SHOP', handler, { tracing: tracing() });
 * ```
 *
 * @param tracer that of the global provider by default
 */
export function tracing(tracer: Tracer = trace.getTracer('@futoin/eventstream')): Tracing {
  return (delivery, handle) => {
    const options = { kind: SpanKind.CONSUMER, attributes: attributes(delivery) };
    return tracer.startActiveSpan(`process ${delivery.component}`, options, async (span) => {
      try {
        await handle();
      } catch (error) {
        span.recordException(error instanceof Error ? error : String(error));
        span.setStatus({ code: SpanStatusCode.ERROR });
        throw error;
      } finally {
        span.end();
      }
    });
  };
}

function attributes({ component, events, attempt }: Delivery): Attributes {
  return {
    'messaging.system': 'futoin_eventstream',
    'messaging.destination.name': component,
    'messaging.operation.type': 'process',
    'messaging.message.id': String(events[0]?.id),
    ...(events.length > 1 && { 'messaging.batch.message_count': events.length }),
    ...(attempt > 1 && { 'futoin_eventstream.attempt': attempt }),
  };
}
