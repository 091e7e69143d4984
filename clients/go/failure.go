package eventstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// FailurePolicy is what happens when a handler fails. The zero value is
// [RetryForever].
type FailurePolicy struct {
	stop       bool
	attempts   int
	deadLetter func(context.Context, Event, error) error
}

var (
	// RetryForever calls the handler with the same event again, with back-off.
	RetryForever = FailurePolicy{}
	// StopOnFailure ends the receiver with a [*HandlerError].
	StopOnFailure = FailurePolicy{stop: true}
)

// DeadLetter calls the handler up to attempts times (0: 5), then hands the event
// and the error of the last one to letter and goes on. When letter fails too,
// that is one more failure of the handler. Of a group, each event is handed over.
func DeadLetter(attempts int, letter func(ctx context.Context, event Event, err error) error) FailurePolicy {
	if attempts <= 0 {
		attempts = 5
	}
	return FailurePolicy{attempts: attempts, deadLetter: letter}
}

// errHalted: the session is over, or the receiver told to stop, before the
// events were handled.
var errHalted = errors.New("eventstream: halted")

// attempt calls the handler until the events are done, by its success or by the
// policy. It gives up between two calls when the session halts.
func (s *session) attempt(ctx context.Context, events []Event) error {
	for {
		// The last two are known here a moment before halt ends.
		if s.halt.Err() != nil || s.stopped() || ctx.Err() != nil {
			return errHalted
		}
		err := s.call(ctx, events)
		if err == nil {
			s.failures.forget(events[0].ID)
			return nil
		}
		if ctx.Err() != nil {
			return errHalted
		}
		if s.options.OnFailure.stop {
			return &HandlerError{Component: s.component, Event: events[0], Err: err}
		}
		failed := s.failures.count(events[0].ID)
		if s.buried(ctx, events, failed, &err) {
			s.failures.forget(events[0].ID)
			return nil
		}
		delay := s.options.Backoff.delay(failed, 0)
		s.log.WarnContext(ctx, "eventstream: handler failed", "event", events[0].ID,
			"attempt", failed, "delay", delay, "error", err)
		sleep(s.halt, delay)
	}
}

func (s *session) call(ctx context.Context, events []Event) error {
	if s.options.Intercept == nil {
		return s.handle(ctx, events)
	}
	call := Call{Component: s.component, Events: events, Attempt: s.failures.of(events[0].ID) + 1}
	return s.options.Intercept(ctx, call, func(ctx context.Context) error { return s.handle(ctx, events) })
}

// buried tells whether the dead letter callback has taken the events; if it
// failed, that joins err.
func (s *session) buried(ctx context.Context, events []Event, failed int, err *error) bool {
	policy := s.options.OnFailure
	if policy.deadLetter == nil || failed < policy.attempts {
		return false
	}
	for _, event := range events {
		if broken := policy.deadLetter(ctx, event, *err); broken != nil {
			*err = fmt.Errorf("%w; dead letter: %w", *err, broken)
			return false
		}
		s.log.ErrorContext(ctx, "eventstream: event given up", "event", event.ID, "attempts", failed, "error", *err)
	}
	return true
}

// failures counts how often the handler has failed on an event that is not done
// yet, also in earlier sessions: a lost connection does not make it innocent.
type failures struct {
	mutex  sync.Mutex
	counts map[int64]int
}

func (f *failures) count(id int64) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.counts == nil {
		f.counts = make(map[int64]int)
	}
	f.counts[id]++
	return f.counts[id]
}

func (f *failures) of(id int64) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.counts[id]
}

func (f *failures) forget(id int64) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	delete(f.counts, id)
}
