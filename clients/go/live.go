package eventstream

import (
	"context"
	"time"
)

// liveComponent is the name under which the service sends what happens now.
const liveComponent = "LIVE"

// liveQueueGroups is how many groups a live receiver reads ahead of its
// handler. What is beyond that waits in the service, which drops and counts.
const liveQueueGroups = 4

// LiveOptions are the options of a [LiveReceiver], as in [ReceiverOptions].
type LiveOptions struct {
	Want              []string
	OnFailure         FailurePolicy
	MaxGroupEvents    int
	MaxLinger         time.Duration
	HeartbeatInterval time.Duration
	Backoff           Backoff
	Label             string
	// OnReconnect tells of a lost session; what happens until the next one
	// starts is missed without being counted.
	OnReconnect func(Reconnect)
	OnStarted   func(Started)
	// OnDropped is told the total, before the events behind the hole come.
	OnDropped func(total int64)
	Intercept Interceptor
}

// LiveReceiver gets what happens from now on. It may miss events, and counts
// those that it was too slow for.
type LiveReceiver struct{ *receiver }

// Live makes a live receiver; Run starts it.
func (c *Client) Live(options LiveOptions) *LiveReceiver {
	r := newReceiver(c, liveComponent, ReceiverOptions{
		Want:              options.Want,
		OnFailure:         options.OnFailure,
		MaxGroupEvents:    options.MaxGroupEvents,
		MaxLinger:         options.MaxLinger,
		HeartbeatInterval: options.HeartbeatInterval,
		Backoff:           options.Backoff,
		Label:             options.Label,
		OnReconnect:       options.OnReconnect,
		OnStarted:         options.OnStarted,
		Intercept:         options.Intercept,
	})
	r.live = true
	r.onDropped = options.OnDropped
	return &LiveReceiver{r}
}

// Run receives until it is stopped or fails, as [ReliableReceiver.Run].
func (r *LiveReceiver) Run(ctx context.Context, handle Handler) error {
	return r.run(ctx, each(handle), false)
}

// RunGroups is Run with a handler of groups.
func (r *LiveReceiver) RunGroups(ctx context.Context, handle GroupHandler) error {
	return r.run(ctx, handle, true)
}

// Stop lets Run finish the event that is in the handler and return. It does not
// wait for that, and may be called at any time.
func (r *LiveReceiver) Stop() { r.stop() }

// Dropped is how many events, of any type, were missed because the handler was
// too slow.
func (r *LiveReceiver) Dropped() int64 { return r.dropped.Load() }
