// Package eventstreamotel traces the handlers of event stream receivers with
// OpenTelemetry.
package eventstreamotel

import (
	"context"
	"strconv"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/futoin/eventstream-rs/clients/go/eventstreamotel"

// Interceptor makes a consumer span for each call of a handler, which the
// handler finds in its context. provider nil: the global one.
//
//	options.Intercept = eventstreamotel.Interceptor(nil)
func Interceptor(provider trace.TracerProvider) eventstream.Interceptor {
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	tracer := provider.Tracer(scope)
	return func(ctx context.Context, call eventstream.Call, next func(context.Context) error) error {
		ctx, span := tracer.Start(ctx, "process "+call.Component,
			trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes(call)...))
		defer span.End()
		err := next(ctx)
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		return err
	}
}

// attributes as in OpenTelemetry's conventions for messaging. A group has the
// id of its first event.
func attributes(call eventstream.Call) []attribute.KeyValue {
	known := []attribute.KeyValue{
		attribute.String("messaging.system", "futoin_eventstream"),
		attribute.String("messaging.destination.name", call.Component),
		attribute.String("messaging.message.id", strconv.FormatInt(call.Events[0].ID, 10)),
		attribute.String("messaging.operation.type", "process"),
	}
	if len(call.Events) > 1 {
		known = append(known, attribute.Int("messaging.batch.message_count", len(call.Events)))
	}
	return known
}
