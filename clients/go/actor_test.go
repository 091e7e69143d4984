package eventstream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
)

// settings are the options of a receiver as the cases write them.
type settings struct {
	Component string
	Want      []string
	Start     *struct {
		AfterID int64 `json:"after_id"`
	}
	Replay            bool
	Register          *bool
	OnFailure         json.RawMessage `json:"on_failure"`
	Workers           int
	By                string
	MaxInFlightEvents int   `json:"max_in_flight_events"`
	MaxInFlightBytes  int64 `json:"max_in_flight_bytes"`
	MaxGroupEvents    int   `json:"max_group_events"`
	MaxLinger         ms    `json:"max_linger_ms"`
	HeartbeatInterval ms    `json:"heartbeat_interval_ms"`
	BackoffInitial    ms    `json:"backoff_initial_ms"`
	BackoffMax        ms    `json:"backoff_max_ms"`
}

type ms int64

func (m ms) duration() time.Duration { return time.Duration(m) * time.Millisecond }

// runnable is either kind of receiver.
type runnable interface {
	Run(context.Context, eventstream.Handler) error
	RunGroups(context.Context, eventstream.GroupHandler) error
	Stop()
}

// actor plays one receiver of a case.
type actor struct {
	scene    *scene
	role     role
	receiver runnable
	ctx      context.Context
	cancel   context.CancelFunc
	released chan struct{}

	mutex   sync.Mutex
	started bool
	calls   map[int64]int
	letters map[int64]int
}

func newActor(s *scene, client *eventstream.Client, role role) *actor {
	a := &actor{
		scene: s, role: role, released: make(chan struct{}, 16),
		calls: make(map[int64]int), letters: make(map[int64]int),
	}
	a.ctx, a.cancel = context.WithCancel(s.ctx)
	if role.Kind == "live" {
		a.receiver = client.Live(a.liveOptions())
	} else {
		a.receiver = client.Receive(role.Options.Component, a.options())
	}
	return a
}

func (a *actor) options() eventstream.ReceiverOptions {
	from := a.role.Options
	options := eventstream.ReceiverOptions{
		Want:              from.Want,
		Replay:            from.Replay,
		NoRegister:        from.Register != nil && !*from.Register,
		OnFailure:         a.policy(),
		Workers:           from.Workers,
		Key:               key,
		MaxInFlightEvents: from.MaxInFlightEvents,
		MaxInFlightBytes:  from.MaxInFlightBytes,
		MaxGroupEvents:    from.MaxGroupEvents,
		MaxLinger:         from.MaxLinger.duration(),
		HeartbeatInterval: from.HeartbeatInterval.duration(),
		Backoff:           a.backoff(),
		Label:             a.role.Name,
		OnReconnect:       a.reconnects,
	}
	if from.Start != nil {
		options.Start = eventstream.StartAfter(from.Start.AfterID)
	}
	return options
}

func (a *actor) liveOptions() eventstream.LiveOptions {
	from := a.role.Options
	return eventstream.LiveOptions{
		Want:              from.Want,
		OnFailure:         a.policy(),
		MaxGroupEvents:    from.MaxGroupEvents,
		MaxLinger:         from.MaxLinger.duration(),
		HeartbeatInterval: from.HeartbeatInterval.duration(),
		Backoff:           a.backoff(),
		Label:             a.role.Name,
		OnReconnect:       a.reconnects,
		OnDropped:         func(total int64) { a.did("dropped", "count", total) },
	}
}

func (a *actor) backoff() eventstream.Backoff {
	from := a.role.Options
	return eventstream.Backoff{Initial: from.BackoffInitial.duration(), Max: from.BackoffMax.duration()}
}

// key is the "k" of the event's data.
func key(event eventstream.Event) string {
	var data struct{ K string }
	if err := event.Decode(&data); err != nil {
		return ""
	}
	return data.K
}

func (a *actor) policy() eventstream.FailurePolicy {
	var letter struct {
		DeadLetter struct{ Attempts int } `json:"dead_letter"`
	}
	switch policy := string(a.role.Options.OnFailure); policy {
	case "", `"retry"`:
		return eventstream.RetryForever
	case `"stop"`:
		return eventstream.StopOnFailure
	default:
		if err := json.Unmarshal([]byte(policy), &letter); err != nil {
			a.scene.t.Errorf("on_failure %s: %v", policy, err)
		}
		return eventstream.DeadLetter(letter.DeadLetter.Attempts, a.bury)
	}
}

func (a *actor) start() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.started = true
	go func() {
		defer a.scene.ended.Done()
		a.did("ended", "error", ending(a.run()))
	}()
}

func (a *actor) run() error {
	if a.role.Options.By == "group" {
		return a.receiver.RunGroups(a.ctx, a.handleGroup)
	}
	return a.receiver.Run(a.ctx, a.handle)
}

func (a *actor) told(what string) {
	switch what {
	case "start":
		a.start()
	case "stop":
		a.receiver.Stop()
	case "cancel":
		a.cancel()
	case "release":
		a.released <- struct{}{}
	}
}

// leave ends it, also when it never began.
func (a *actor) leave() {
	a.cancel()
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if !a.started {
		a.started = true
		a.scene.ended.Done()
	}
}

func (a *actor) did(what, name string, value any) {
	a.scene.say(map[string]any{"receiver": a.role.Name, "did": what, name: value})
}

func (a *actor) reconnects(r eventstream.Reconnect) {
	a.scene.say(map[string]any{
		"receiver": a.role.Name, "did": "reconnect", "attempt": r.Attempt,
		"delay_ms": float64(r.Delay) / float64(time.Millisecond),
	})
}

func (a *actor) handleGroup(ctx context.Context, events []eventstream.Event) error {
	for _, event := range events {
		if err := a.handle(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

func (a *actor) handle(ctx context.Context, event eventstream.Event) error {
	a.did("handle", "id", event.ID)
	how := a.handling(event.ID)
	if how.Wait {
		select {
		case <-a.released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if a.fails(how) {
		return fmt.Errorf("event %d is poison", event.ID)
	}
	a.did("handled", "id", event.ID)
	return nil
}

func (a *actor) handling(id int64) handling {
	for _, how := range a.role.Handler {
		if how.Event == id {
			return how
		}
	}
	return handling{}
}

func (a *actor) fails(how handling) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.calls[how.Event]++
	times, counted := how.Fail.(float64)
	return how.Fail == "always" || counted && a.calls[how.Event] <= int(times)
}

func (a *actor) bury(_ context.Context, event eventstream.Event, _ error) error {
	a.did("dead_letter", "id", event.ID)
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.letters[event.ID]++
	if a.letters[event.ID] <= a.handling(event.ID).DeadLetterFail {
		return fmt.Errorf("event %d is not taken", event.ID)
	}
	return nil
}
