package eventstream

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
)

// ackTimeout is for one call.
const ackTimeout = 10 * time.Second

// acknowledger tells the service the position of one session: one call at a
// time, and what is handled meanwhile goes with the next.
type acknowledger struct {
	session  *session
	epoch    atomic.Int64
	position atomic.Int64
	moved    chan struct{}
	finished context.Context
	cease    context.CancelFunc
	done     chan struct{}

	// Of who sends: first its goroutine, then finish.
	acked   int64
	refused bool
}

// newAcknowledger starts it; finish ends it.
func newAcknowledger(ctx context.Context, s *session) *acknowledger {
	a := &acknowledger{session: s, moved: make(chan struct{}, 1), done: make(chan struct{})}
	a.finished, a.cease = context.WithCancel(s.context)
	go func() {
		defer close(a.done)
		a.work(ctx)
	}()
	return a
}

// advance moves the position. Never called by two goroutines at once.
func (a *acknowledger) advance(id int64) {
	if !a.session.live && id > a.position.Load() {
		a.position.Store(id)
		tell(a.moved)
	}
}

// work acknowledges as long as the session lives.
func (a *acknowledger) work(ctx context.Context) {
	for {
		select {
		case <-a.moved:
		case <-a.finished.Done():
			return
		}
		for attempt := 1; a.pending(); attempt++ {
			failure := a.send(ctx)
			if failure == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			if failure.final() || failure.fenced() {
				a.refused = true
				a.session.end(failure)
				return
			}
			a.session.log.WarnContext(ctx, "eventstream: acknowledgement failed", "attempt", attempt, "error", failure)
			if !sleep(a.finished, a.session.options.Backoff.delay(attempt, failure.RetryAfter)) {
				return
			}
		}
	}
}

// finish ends it, when nothing is handled any more: with one last call, unless
// the receiver is cancelled or another session owns the consumer.
func (a *acknowledger) finish(ctx context.Context) {
	a.cease()
	<-a.done
	var why *Error
	fenced := errors.As(context.Cause(a.session.context), &why) && why.fenced()
	if fenced || a.refused || ctx.Err() != nil || !a.pending() {
		return
	}
	if failure := a.send(ctx); failure != nil {
		a.session.log.WarnContext(ctx, "eventstream: handled events will come again",
			"after_id", a.acked, "error", failure)
	}
}

func (a *acknowledger) pending() bool { return a.position.Load() > a.acked }

func (a *acknowledger) send(ctx context.Context) *Error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	position, epoch := a.position.Load(), a.epoch.Load()
	response, err := a.session.client.push.Ack(ctx, &evtv1.AckRequest{
		Component: a.session.component, LastId: position, Epoch: &epoch,
	})
	if err != nil {
		return asError(err)
	}
	a.acked = position
	a.session.stored = response.GetAckedId()
	return nil
}
