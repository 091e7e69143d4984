package eventstream

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"sync/atomic"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
)

// receiver is what both kinds have in common: it runs one session after the
// other, and keeps what goes from one to the next.
type receiver struct {
	client    *Client
	component string
	options   ReceiverOptions
	log       *slog.Logger
	live      bool
	dropped   *atomic.Int64
	onDropped func(int64)
	running   *atomic.Bool
	stopping  context.Context // ends when stop is called
	stop      context.CancelFunc

	registered bool
	standBy    bool
	// replaying until the service's position is reached: stored is that
	// position, handled ours (0: nothing yet).
	replaying       bool
	stored, handled int64
	failures        failures
}

func newReceiver(c *Client, component string, options ReceiverOptions) *receiver {
	stopping, stop := context.WithCancel(context.Background())
	if options.Label == "" {
		options.Label, _ = os.Hostname() // without a name it stays empty
	}
	return &receiver{
		client: c, component: component, options: options,
		log:      c.log.With("component", component),
		dropped:  new(atomic.Int64),
		running:  new(atomic.Bool),
		stopping: stopping, stop: stop,
		replaying: options.Replay,
		stored:    math.MaxInt64, // not known yet: ahead of any replay
	}
}

func (r *receiver) run(ctx context.Context, handle GroupHandler, groups bool) error {
	if r.options.Workers > 1 && (groups || r.options.Key == nil) {
		return invalid("workers", "more than one needs a key and a handler of single events")
	}
	if r.running.Swap(true) {
		return errors.New("eventstream: a receiver runs once")
	}
	defer r.stop()
	for attempt := 1; ; attempt++ {
		brought, err := r.session(ctx, handle, groups)
		if brought {
			attempt = 1
		}
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		// Not errors.As: a handler's error may have one of ours inside.
		lost, ok := err.(*Error)
		if !ok || lost.final() {
			return err
		}
		if !r.pause(ctx, attempt, lost) {
			return ctx.Err()
		}
	}
}

// pause returns false when the receiver ends meanwhile.
func (r *receiver) pause(ctx context.Context, attempt int, lost *Error) bool {
	r.standBy = r.standBy || lost.fenced()
	delay := r.options.Backoff.delay(attempt, lost.RetryAfter)
	r.log.InfoContext(ctx, "eventstream: reconnecting", "attempt", attempt, "delay", delay, "error", lost)
	if r.options.OnReconnect != nil {
		r.options.OnReconnect(Reconnect{Attempt: attempt, Delay: delay, Err: lost})
	}
	ctx, cancel := r.untilStop(ctx)
	defer cancel()
	return sleep(ctx, delay)
}

// untilStop ends with ctx or when the receiver is told to stop.
func (r *receiver) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(r.stopping, cancel)
	return ctx, func() { release(); cancel() }
}

func (r *receiver) stopped() bool { return r.stopping.Err() != nil }

// register does it until it succeeded once.
func (r *receiver) register(ctx context.Context) error {
	if r.registered || r.live || r.options.NoRegister {
		return nil
	}
	ctx, cancel := r.untilStop(ctx)
	defer cancel()
	ctx, expire := context.WithTimeout(ctx, r.client.timeout)
	defer expire()
	response, err := r.client.poll.RegisterConsumer(ctx, &evtv1.RegisterConsumerRequest{
		Component: r.component, Start: r.options.Start.at,
	})
	if err != nil {
		return asError(err)
	}
	r.registered = true
	r.stored = response.GetConsumer().GetPosition()
	return nil
}

func (r *receiver) subscription() *evtv1.ReadyToReceiveRequest {
	return &evtv1.ReadyToReceiveRequest{
		Component:         r.component,
		Want:              wanted(r.options.Want),
		Start:             r.start(),
		MaxInFlightEvents: int32(r.options.MaxInFlightEvents),
		MaxInFlightBytes:  r.options.MaxInFlightBytes,
		MaxGroupEvents:    int32(r.options.MaxGroupEvents),
		MaxLinger:         optional(r.options.MaxLinger),
		HeartbeatInterval: optional(r.options.HeartbeatInterval),
		ConflictPolicy:    r.conflict(),
		ClientLabel:       r.options.Label,
	}
}

// start is left out unless a replay begins or goes on: the service knows the
// position better than any memory.
func (r *receiver) start() *evtv1.StartAt {
	if !r.replaying {
		return nil
	}
	next := r.options.Start.at
	if r.handled > 0 {
		next = StartAfter(r.handled).at
	}
	if after, known := next.GetAt().(*evtv1.StartAt_AfterId); known && after.AfterId >= r.stored {
		r.replaying = false
		return nil
	}
	return next
}

func (r *receiver) conflict() evtv1.ConflictPolicy {
	switch {
	case r.live:
		return evtv1.ConflictPolicy_CONFLICT_POLICY_UNSPECIFIED
	case r.standBy || r.options.Conflict == StandBy:
		return evtv1.ConflictPolicy_CONFLICT_POLICY_STAND_BY
	case r.options.Conflict == Reject:
		return evtv1.ConflictPolicy_CONFLICT_POLICY_REJECT
	default:
		return evtv1.ConflictPolicy_CONFLICT_POLICY_TAKE_OVER
	}
}
