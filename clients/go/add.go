package eventstream

import (
	"context"
	"fmt"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
	"github.com/google/uuid"
)

// AddOption changes how events are added through the service.
type AddOption func(*adding)

type adding struct{ requestID string }

// RequestID is the UUID by which the service knows a repeated call: within an
// hour (by default) it answers what it answered first and adds nothing. Without
// it each call has one of its own, so that only its own repetitions are safe.
func RequestID(id string) AddOption {
	return func(a *adding) { a.requestID = id }
}

func addingWith(options []AddOption) adding {
	a := adding{requestID: uuid.NewString()}
	for _, option := range options {
		option(&a)
	}
	return a
}

// AddEvent adds one event and returns its id once it is durable. It is repeated
// while the service is unavailable, until the deadline of ctx or the client's
// time-out; no repetition adds it twice.
func (c *Client) AddEvent(
	ctx context.Context, eventType string, data any, options ...AddOption,
) (int64, error) {
	text, err := NewEvent{Type: eventType, Data: data}.text()
	if err != nil {
		return 0, err
	}
	request := &evtv1.AddEventRequest{
		Type: eventType, DataJson: text, RequestId: addingWith(options).requestID,
	}
	var response *evtv1.AddEventResponse
	err = c.repeat(ctx, func(ctx context.Context) (err error) {
		response, err = c.gen.AddEvent(ctx, request)
		return err
	})
	return response.GetId(), err
}

// AddEvents adds 1 to 1000 events in one transaction, all or none, and returns
// their ids. It is repeated as [Client.AddEvent] is.
func (c *Client) AddEvents(ctx context.Context, events []NewEvent, options ...AddOption) ([]int64, error) {
	request := &evtv1.AddEventsRequest{RequestId: addingWith(options).requestID}
	for index, event := range events {
		message, err := event.message()
		if err != nil {
			return nil, inBatch(index, err)
		}
		request.Events = append(request.Events, message)
	}
	var response *evtv1.AddEventsResponse
	err := c.repeat(ctx, func(ctx context.Context) (err error) {
		response, err = c.gen.AddEvents(ctx, request)
		return err
	})
	return response.GetIds(), err
}

// inBatch names the event in the field, as the service does.
func inBatch(index int, err error) error {
	failure := *asError(err)
	failure.Field = fmt.Sprintf("events[%d].%s", index, failure.Field)
	return &failure
}
