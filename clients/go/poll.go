package eventstream

import (
	"context"
	"iter"
	"time"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// PollOptions are the options of [Client.Poll].
type PollOptions struct {
	// Want are the types of interest. nil: every type; empty: none.
	Want []string
	// Wait is how long the service waits for a first event, at most a minute.
	// With it the iterator goes on for ever; without it, it ends when there is
	// nothing more for now.
	Wait time.Duration
	// MaxEvents and MaxBytes bound one poll. 0: the service's defaults.
	MaxEvents, MaxBytes int
}

// Poll yields the events after the stored position of a registered component,
// or one error as the last. Polls are repeated as [Client.AddEvent] is.
//
// Events are acknowledged when the loop has gone past them: those of one poll
// by the next one, and when the loop is left, all but the event it was left at.
func (c *Client) Poll(ctx context.Context, component string, options PollOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		p := polling{client: c, request: &evtv1.PollEventsRequest{
			Component: component,
			Want:      wanted(options.Want),
			MaxEvents: int32(options.MaxEvents),
			MaxBytes:  int32(options.MaxBytes),
			MaxWait:   optional(options.Wait),
		}}
		for more := true; more || options.Wait > 0; {
			response, err := p.next(ctx)
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, event := range eventsOf(response.GetEvents()) {
				if !yield(event, nil) {
					p.leave(ctx)
					return
				}
				p.past = event.ID
			}
			p.request.LastId = proto.Int64(response.GetLastId())
			// A last poll acknowledges the last events.
			more = response.GetMore() || len(response.GetEvents()) > 0
		}
	}
}

type polling struct {
	client  *Client
	request *evtv1.PollEventsRequest
	past    int64 // the last event that the loop went past
}

func (p *polling) next(ctx context.Context) (*evtv1.PollEventsResponse, error) {
	var response *evtv1.PollEventsResponse
	patience := p.client.timeout + p.request.GetMaxWait().AsDuration()
	err := p.client.repeatWithin(ctx, patience, func(ctx context.Context) (err error) {
		response, err = p.client.poll.PollEvents(ctx, p.request)
		return err
	})
	if err == nil {
		p.request.Epoch = proto.Int64(response.GetEpoch())
	}
	return response, err
}

// leave acknowledges; what fails comes again.
func (p *polling) leave(ctx context.Context) {
	if p.past <= p.request.GetLastId() {
		return
	}
	err := p.client.once(ctx, func(ctx context.Context) error {
		_, err := p.client.push.Ack(ctx, &evtv1.AckRequest{
			Component: p.request.GetComponent(), LastId: p.past, Epoch: p.request.Epoch,
		})
		return err
	})
	if err != nil {
		p.client.log.WarnContext(ctx, "eventstream: events will come again", "after_id", p.request.GetLastId(), "error", err)
	}
}

func wanted(types []string) *evtv1.Want {
	if types == nil {
		return nil
	}
	return &evtv1.Want{Types: types}
}

// optional is unset when it is zero.
func optional(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
