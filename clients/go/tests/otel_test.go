package tests

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"github.com/futoin/eventstream-rs/clients/go/eventstreamotel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"
)

func TestSpanPerCall(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, component := consumer(t, ctx, "TEST_SQLITE")
	id, err := client.AddEvent(ctx, "GO_SPAN", 1)
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewSpanRecorder()
	receiver := client.Receive(component, eventstream.ReceiverOptions{
		Want:      []string{"GO_SPAN"},
		Intercept: eventstreamotel.Interceptor(trace.NewTracerProvider(trace.WithSpanProcessor(spans))),
	})
	calls := 0
	err = receiver.Run(ctx, func(ctx context.Context, _ eventstream.Event) error {
		if !api.SpanFromContext(ctx).IsRecording() {
			t.Error("no span in the context")
		}
		if calls++; calls == 1 {
			return errors.New("not yet")
		}
		receiver.Stop()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans", len(ended))
	}
	if status := ended[0].Status(); status.Code != codes.Error || status.Description != "not yet" {
		t.Errorf("%+v", status)
	}
	if status := ended[1].Status(); status.Code != codes.Unset {
		t.Errorf("%+v", status)
	}
	got := map[string]string{}
	for _, attribute := range ended[1].Attributes() {
		got[string(attribute.Key)] = attribute.Value.AsString()
	}
	want := map[string]string{
		"messaging.system":           "futoin_eventstream",
		"messaging.destination.name": component,
		"messaging.message.id":       fmt.Sprint(id),
		"messaging.operation.type":   "process",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || ended[1].SpanKind() != api.SpanKindConsumer {
		t.Errorf("%v, %s", got, ended[1].SpanKind())
	}
}
