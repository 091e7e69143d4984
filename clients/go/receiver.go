package eventstream

import (
	"context"
	"time"
)

// Handler handles one event; nil means done. ctx ends when the receiver is
// cancelled.
type Handler func(ctx context.Context, event Event) error

// GroupHandler handles the events of one group together, at least one.
type GroupHandler func(ctx context.Context, events []Event) error

// Conflict is what the first subscription does where another session of the
// same consumer is open. After it lost one, a receiver stands by.
type Conflict int

// The policies.
const (
	TakeOver Conflict = iota // end the other session
	Reject                   // end this receiver with [SubscriptionActive]
	StandBy                  // wait for the end of the other session
)

// ReceiverOptions are the options of a [ReliableReceiver]; zero values are the
// defaults.
type ReceiverOptions struct {
	// Want are the types of interest. nil: every type; empty: none.
	Want []string
	// Start is where a new registration starts (default: with the oldest
	// active event), and with Replay where this run starts although the
	// position is further.
	Start  StartAt
	Replay bool
	// NoRegister leaves the registration to somebody else.
	NoRegister bool
	// OnFailure is what happens when the handler fails. Default: RetryForever.
	OnFailure FailurePolicy
	// Workers handle events of different keys side by side, those of one key
	// in order. Default: 1. More than one needs Key, which must not block.
	Workers int
	Key     func(Event) string
	// What the service sends before it waits for acknowledgements, and in one
	// group. 0: its defaults.
	MaxInFlightEvents int
	MaxInFlightBytes  int64
	MaxGroupEvents    int
	// MaxLinger is how long the service may wait to fill a group. 0: not.
	MaxLinger time.Duration
	// HeartbeatInterval of an idle stream; three times as long without a word
	// the receiver reconnects. 0: the service's default, 10 s.
	HeartbeatInterval time.Duration
	// Conflict with another session of this component. Default: TakeOver.
	Conflict Conflict
	// Backoff of reconnects and of a failing handler.
	Backoff Backoff
	// Label is shown to operators. Default: the host's name.
	Label string
	// OnReconnect and OnStarted tell what happens; they must not block.
	OnReconnect func(Reconnect)
	OnStarted   func(Started)
	// Intercept surrounds each call of the handler, for tracing and the like.
	Intercept Interceptor
}

// Reconnect is what OnReconnect is told before the pause.
type Reconnect struct {
	Attempt int // from 1 on, and again after a session that brought events
	Delay   time.Duration
	Err     *Error // why the session ended
}

// Started is what OnStarted is told of a new session.
type Started struct {
	Epoch        int64
	StartAfterID int64
}

// Call is one call of a handler.
type Call struct {
	Component string
	Events    []Event // one, unless the handler takes groups
	Attempt   int     // from 1 on
}

// Interceptor makes the call by next, and returns its error.
type Interceptor func(ctx context.Context, call Call, next func(context.Context) error) error

// ReliableReceiver gets every event of a component, in order, at least once.
type ReliableReceiver struct{ *receiver }

// Receive makes a receiver of the component; Run starts it.
func (c *Client) Receive(component string, options ReceiverOptions) *ReliableReceiver {
	return &ReliableReceiver{newReceiver(c, component, options)}
}

// Run receives until it is stopped (nil), ctx ends (its error), the handler
// failed under [StopOnFailure] (a [*HandlerError]) or the service refuses for
// good (an [*Error]). Everything else is a reason to reconnect. A receiver runs
// once.
func (r *ReliableReceiver) Run(ctx context.Context, handle Handler) error {
	return r.run(ctx, each(handle), false)
}

// RunGroups is Run with a handler of groups. Workers must be 1.
func (r *ReliableReceiver) RunGroups(ctx context.Context, handle GroupHandler) error {
	return r.run(ctx, handle, true)
}

// Stop lets Run finish the events that are in the handler, acknowledge them and
// return. It does not wait for that, and may be called at any time.
func (r *ReliableReceiver) Stop() { r.stop() }

func each(handle Handler) GroupHandler {
	return func(ctx context.Context, events []Event) error { return handle(ctx, events[0]) }
}
