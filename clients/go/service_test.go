package eventstream_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
)

// need is a variable of scripts/with-services.sh.
func need(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run this through scripts/with-services.sh", name)
	}
	return value
}

func connect(t *testing.T, address string, options ...eventstream.Option) *eventstream.Client {
	t.Helper()
	client, err := eventstream.Dial(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func sqlite(t *testing.T) *eventstream.Client {
	t.Helper()
	return connect(t, "http://"+need(t, "TEST_SQLITE"))
}

// register makes a component of the test's own, which sees what is added from
// now on.
func register(t *testing.T, client *eventstream.Client) string {
	t.Helper()
	component := "G_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:14]
	_, created, err := client.Register(t.Context(), component, eventstream.StartNow())
	if err != nil || !created {
		t.Fatalf("created: %t, %v", created, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := client.Unregister(ctx, component, ""); err != nil {
			t.Error(err)
		}
	})
	return component
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// reason is what the service refused an error for.
func reason(err error) eventstream.Reason {
	var failure *eventstream.Error
	if errors.As(err, &failure) {
		return failure.Reason
	}
	return ""
}

const exact = `{"n":9007199254740993,"text":"\"🫖\" 'tea'"}`

type exactData struct {
	N    int64  `json:"n"`
	Text string `json:"text"`
}

var exactValue = exactData{9007199254740993, `"🫖" 'tea'`}

func TestRoundTrip(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	component := register(t, client)
	before := time.Now().Add(-time.Minute)
	id, err := client.AddEvent(ctx, "GO_ROUND_TRIP", exactValue)
	if err != nil {
		t.Fatal(err)
	}
	receiver := client.Receive(component, eventstream.ReceiverOptions{Want: []string{"GO_ROUND_TRIP"}})
	var got eventstream.Event
	err = receiver.Run(ctx, func(_ context.Context, event eventstream.Event) error {
		got = event
		receiver.Stop()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != id || got.Type != "GO_ROUND_TRIP" || got.DataJSON != exact || got.Time.Before(before) {
		t.Fatalf("%+v", got)
	}
	var data exactData
	if err := got.Decode(&data); err != nil || data != exactValue {
		t.Fatalf("%+v, %v", data, err)
	}
	// The acknowledgement was answered before Run returned.
	consumer, created, err := client.Register(ctx, component, eventstream.StartAt{})
	if err != nil || created || consumer.GetPosition() < id {
		t.Fatalf("%v, %t, %v", consumer, created, err)
	}
}

func TestRequestIDAddsOnce(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	request := eventstream.RequestID(uuid.NewString())
	first, err := client.AddEvent(ctx, "GO_ONCE", 1, request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.AddEvent(ctx, "GO_ONCE", 1, request)
	if err != nil || again != first {
		t.Fatalf("%d, then %d, %v", first, again, err)
	}
	_, err = client.AddEvent(ctx, "GO_ONCE", 2, request)
	if reason(err) != eventstream.RequestIDReused {
		t.Fatalf("%v", err)
	}
}

func TestBatchesAndPolling(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	component := register(t, client)
	ids, err := client.AddEvents(ctx, []eventstream.NewEvent{{Type: "GO_BATCH", Data: 1}, {Type: "GO_BATCH", Data: 2}})
	if err != nil || len(ids) != 2 {
		t.Fatalf("%v, %v", ids, err)
	}
	many := func(yield func(eventstream.NewEvent) bool) {
		for n := range 20_000 {
			if !yield(eventstream.NewEvent{Type: "GO_BATCH", Data: n}) {
				return
			}
		}
	}
	request := eventstream.RequestID(uuid.NewString())
	done, err := client.ImportEvents(ctx, many, request)
	if err != nil || done.Events != 20_000 || done.Batches != 20 || done.LastID-done.FirstID < 19_999 {
		t.Fatalf("%+v, %v", done, err)
	}
	if again, err := client.ImportEvents(ctx, many, request); err != nil || again != done {
		t.Fatalf("%+v, then %+v, %v", done, again, err)
	}
	options := eventstream.PollOptions{Want: []string{"GO_BATCH"}}
	for event, err := range client.Poll(ctx, component, options) {
		if err != nil {
			t.Fatal(err)
		}
		if event.ID == done.FirstID+1 { // left here: the next loop begins with it
			break
		}
	}
	var last int64
	count := 0
	for event, err := range client.Poll(ctx, component, options) {
		if err != nil {
			t.Fatal(err)
		}
		if count++; event.ID <= last || last == 0 && event.ID != done.FirstID+1 {
			t.Fatalf("event %d after %d", event.ID, last)
		}
		last = event.ID
	}
	if count != 19_999 || last != done.LastID {
		t.Fatalf("%d events up to %d, imported %+v", count, last, done)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	var failure *eventstream.Error
	_, err := client.AddEvents(ctx, []eventstream.NewEvent{{Type: "A", Data: 1}, {Type: "b", Data: 1}})
	if !errors.As(err, &failure) || failure.Field != "events[1].type" {
		t.Errorf("%v", err)
	}
	_, _, err = client.Register(ctx, "no component", eventstream.StartAt{})
	if !errors.As(err, &failure) || failure.Code != codes.InvalidArgument || failure.Field != "component" || failure.Rule == "" {
		t.Errorf("%v", err)
	}
	for _, err := range client.Poll(ctx, "G_NOBODY", eventstream.PollOptions{}) {
		if reason(err) != eventstream.NotRegistered {
			t.Errorf("%v", err)
		}
	}
	err = client.Receive("G_NOBODY", eventstream.ReceiverOptions{NoRegister: true}).Run(ctx, nothing)
	if reason(err) != eventstream.NotRegistered {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err = client.Status(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func nothing(context.Context, eventstream.Event) error { return nil }

func TestReceiverOptionsAreChecked(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	receiver := client.Receive("G_UNUSED", eventstream.ReceiverOptions{Workers: 2})
	if err := receiver.Run(ctx, nothing); reason(err) != eventstream.InvalidField {
		t.Errorf("workers without a key: %v", err)
	}
	receiver = client.Receive("G_UNUSED", eventstream.ReceiverOptions{})
	receiver.Stop()
	if err := receiver.Run(ctx, nothing); err != nil {
		t.Errorf("stopped before: %v", err)
	}
	if err := receiver.Run(ctx, nothing); err == nil {
		t.Error("ran twice")
	}
}

func TestAdmin(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	component := register(t, client)
	status, err := client.Status(ctx)
	if err != nil || status.GetDatabase() != "sqlite" {
		t.Fatalf("%v, %v", status, err)
	}
	sought, err := client.Seek(ctx, component, "", eventstream.StartAtTime(time.Now().Add(-time.Hour)))
	if err != nil || sought.GetComponent() != component {
		t.Fatalf("%v, %v", sought, err)
	}
	seen := false
	for consumer, err := range client.Consumers(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		seen = seen || consumer.GetComponent() == component
	}
	if !seen {
		t.Fatalf("%s is not listed", component)
	}
	if _, err := client.SkipFrontier(ctx, 1, false, "test"); reason(err) != eventstream.InvalidField {
		t.Fatalf("%v", err)
	}
}

func TestLive(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	// The event may arrive before AddEvent is answered.
	var adding sync.WaitGroup
	add := func(eventstream.Started) {
		adding.Go(func() {
			if _, err := client.AddEvent(ctx, "GO_LIVE", 1); err != nil {
				t.Error(err)
			}
		})
	}
	receiver := client.Live(eventstream.LiveOptions{Want: []string{"GO_LIVE"}, OnStarted: add})
	err := receiver.Run(ctx, func(_ context.Context, event eventstream.Event) error {
		if event.Type != "GO_LIVE" {
			t.Errorf("%+v", event)
		}
		receiver.Stop()
		return nil
	})
	adding.Wait()
	if err != nil || receiver.Dropped() != 0 {
		t.Fatalf("%d dropped, %v", receiver.Dropped(), err)
	}
}

func TestKeysSideBySide(t *testing.T) {
	client, ctx := sqlite(t), patient(t)
	component := register(t, client)
	const keys, each = 10, 200
	events := make([]eventstream.NewEvent, keys*each)
	for n := range events {
		events[n] = eventstream.NewEvent{Type: "GO_KEYS", Data: map[string]int{"key": n % keys, "n": n}}
	}
	for ; len(events) > 0; events = events[1000:] {
		if _, err := client.AddEvents(ctx, events[:1000]); err != nil {
			t.Fatal(err)
		}
	}
	type data struct{ Key, N int }
	parse := func(event eventstream.Event) (d data) {
		if err := event.Decode(&d); err != nil {
			t.Error(err)
		}
		return d
	}
	receiver := client.Receive(component, eventstream.ReceiverOptions{
		Want:    []string{"GO_KEYS"},
		Workers: 4,
		Key:     func(event eventstream.Event) string { return string(rune('a' + parse(event).Key)) },
	})
	var mutex sync.Mutex
	last, count := map[int]int{}, 0
	err := receiver.Run(ctx, func(_ context.Context, event eventstream.Event) error {
		d := parse(event)
		mutex.Lock()
		defer mutex.Unlock()
		if before, seen := last[d.Key]; seen && before >= d.N {
			t.Errorf("key %d: %d after %d", d.Key, d.N, before)
		}
		last[d.Key] = d.N
		if count++; count == keys*each {
			receiver.Stop()
		}
		return nil
	})
	if err != nil || count != keys*each {
		t.Fatalf("%d events, %v", count, err)
	}
	for event, err := range client.Poll(ctx, component, eventstream.PollOptions{Want: []string{"GO_KEYS"}}) {
		t.Errorf("not acknowledged: %+v, %v", event, err)
	}
}
