package eventstream

import (
	"context"
	"iter"
	"time"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// StartAt is a place in the stream. Its zero value says nothing.
type StartAt struct{ at *evtv1.StartAt }

// StartAfter is after the event of this id; 0 is before the oldest event kept,
// archive included.
func StartAfter(id int64) StartAt {
	return StartAt{&evtv1.StartAt{At: &evtv1.StartAt_AfterId{AfterId: id}}}
}

// StartAtTime is before the first event stored at or after this time.
func StartAtTime(t time.Time) StartAt {
	return StartAt{&evtv1.StartAt{At: &evtv1.StartAt_Time{Time: timestamppb.New(t)}}}
}

// StartNow is after everything settled when the service reads it.
func StartNow() StartAt {
	return StartAt{&evtv1.StartAt{At: &evtv1.StartAt_Now{Now: true}}}
}

// Register registers a component for reliable delivery, as a receiver does by
// itself. start is where a new registration starts (zero value: with the oldest
// active event); one that exists stays as it is. created tells whether this
// call made it.
func (c *Client) Register(
	ctx context.Context, component string, start StartAt,
) (consumer *evtv1.Consumer, created bool, err error) {
	var response *evtv1.RegisterConsumerResponse
	err = c.repeat(ctx, func(ctx context.Context) (err error) {
		request := &evtv1.RegisterConsumerRequest{Component: component, Start: start.at}
		response, err = c.poll.RegisterConsumer(ctx, request)
		return err
	})
	return response.GetConsumer(), response.GetCreated(), err
}

// Unregister forgets a consumer. user is its owner; empty: the caller.
func (c *Client) Unregister(ctx context.Context, component, user string) error {
	return c.once(ctx, func(ctx context.Context) error {
		request := &evtv1.UnregisterConsumerRequest{Component: component, User: user}
		_, err := c.admin.UnregisterConsumer(ctx, request)
		return err
	})
}

// Seek moves a consumer's position, back (a replay) or forward (a loss), and
// ends its session. user is its owner; empty: the caller.
func (c *Client) Seek(ctx context.Context, component, user string, start StartAt) (*evtv1.Consumer, error) {
	var response *evtv1.SeekConsumerResponse
	err := c.once(ctx, func(ctx context.Context) (err error) {
		request := &evtv1.SeekConsumerRequest{Component: component, User: user, Start: start.at}
		response, err = c.admin.SeekConsumer(ctx, request)
		return err
	})
	return response.GetConsumer(), err
}

// Consumers yields the registered consumers that the caller may see, or one
// error as the last.
func (c *Client) Consumers(ctx context.Context) iter.Seq2[*evtv1.Consumer, error] {
	return func(yield func(*evtv1.Consumer, error) bool) {
		request := &evtv1.ListConsumersRequest{}
		for {
			var page *evtv1.ListConsumersResponse
			err := c.once(ctx, func(ctx context.Context) (err error) {
				page, err = c.admin.ListConsumers(ctx, request)
				return err
			})
			if err != nil {
				yield(nil, err)
				return
			}
			for _, consumer := range page.GetConsumers() {
				if !yield(consumer, nil) {
					return
				}
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

// Status is the stream at a glance: where it is, what holds it back.
func (c *Client) Status(ctx context.Context) (*evtv1.GetStatusResponse, error) {
	var response *evtv1.GetStatusResponse
	err := c.once(ctx, func(ctx context.Context) (err error) {
		response, err = c.admin.GetStatus(ctx, &evtv1.GetStatusRequest{})
		return err
	})
	return response, err
}

// SkipFrontier gives up, for good, events up to the id whose transaction cannot
// be ended; reason is kept. Use it as the last resort.
func (c *Client) SkipFrontier(
	ctx context.Context, to int64, acceptLoss bool, reason string,
) (*evtv1.SkipFrontierResponse, error) {
	var response *evtv1.SkipFrontierResponse
	err := c.once(ctx, func(ctx context.Context) (err error) {
		request := &evtv1.SkipFrontierRequest{To: to, AcceptLoss: acceptLoss, Reason: reason}
		response, err = c.admin.SkipFrontier(ctx, request)
		return err
	})
	return response, err
}
