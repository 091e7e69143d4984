package eventstream

import (
	"context"
	"errors"
	"io"
	"iter"
	"strconv"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
	"github.com/google/uuid"
)

// Bounds of one batch, which is one transaction, and the batches of one call,
// which are kept until it is answered.
const (
	importBatchEvents = 1000
	importBatchBytes  = 1 << 20
	importBatches     = 16
)

// Imported is how far an import came.
type Imported struct {
	Batches, Events int64
	FirstID, LastID int64 // 0: none
}

// ImportEvents adds any number of events in transactions of up to 1000. Each
// of its calls is repeated as [Client.AddEvent] is. When it fails, what it
// returns beside the error is committed; to go on after a crash, repeat all of
// it with the same [RequestID] and events.
func (c *Client) ImportEvents(
	ctx context.Context, events iter.Seq[NewEvent], options ...AddOption,
) (Imported, error) {
	id, err := uuid.Parse(addingWith(options).requestID)
	if err != nil {
		return Imported{}, invalid("request_id", "must be a UUID")
	}
	i := importing{client: c, id: id}
	for event := range events {
		if err := i.add(ctx, event); err != nil {
			return i.done, err
		}
	}
	i.close()
	return i.done, i.send(ctx)
}

type importing struct {
	client  *Client
	id      uuid.UUID
	seen    int // events
	closed  int // batches
	bytes   int
	batch   []*evtv1.NewEvent
	batches []*evtv1.ImportEventsRequest
	done    Imported
}

func (i *importing) add(ctx context.Context, event NewEvent) error {
	message, err := event.message()
	if err != nil {
		return inBatch(i.seen, err)
	}
	i.seen++
	if len(i.batch) == importBatchEvents || i.bytes+len(message.GetDataJson()) > importBatchBytes {
		i.close()
	}
	if len(i.batches) == importBatches {
		if err := i.send(ctx); err != nil {
			return err
		}
	}
	i.batch = append(i.batch, message)
	i.bytes += len(message.GetDataJson())
	return nil
}

// close ends a batch. Its request_id follows from the import's and its number.
func (i *importing) close() {
	if len(i.batch) == 0 {
		return
	}
	id := uuid.NewSHA1(i.id, []byte(strconv.Itoa(i.closed)))
	i.batches = append(i.batches, &evtv1.ImportEventsRequest{Events: i.batch, RequestId: id.String()})
	i.closed++
	i.batch, i.bytes = nil, 0
}

func (i *importing) send(ctx context.Context) error {
	if len(i.batches) == 0 {
		return nil
	}
	var response *evtv1.ImportEventsResponse
	err := i.client.repeat(ctx, func(ctx context.Context) (err error) {
		response, err = i.call(ctx)
		return err
	})
	if err != nil {
		response = committed(err)
	}
	i.done.count(response)
	i.batches = nil
	return err
}

func (i *importing) call(ctx context.Context) (*evtv1.ImportEventsResponse, error) {
	stream, err := i.client.gen.ImportEvents(ctx)
	if err != nil {
		return nil, err
	}
	for _, batch := range i.batches {
		// io.EOF: the service has answered already; the answer tells why.
		if err := stream.Send(batch); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// committed is what a failed call says to have stored.
func committed(err error) *evtv1.ImportEventsResponse {
	var failure *Error
	if !errors.As(err, &failure) {
		return nil
	}
	figure := func(name string) int64 {
		// Absent where the connection was lost: nothing is known to be stored.
		value, _ := strconv.ParseInt(failure.Metadata[name], 10, 64)
		return value
	}
	return &evtv1.ImportEventsResponse{
		BatchCount: figure("batch_count"), EventCount: figure("event_count"),
		FirstId: figure("first_id"), LastId: figure("last_id"),
	}
}

func (d *Imported) count(response *evtv1.ImportEventsResponse) {
	d.Batches += response.GetBatchCount()
	d.Events += response.GetEventCount()
	if d.FirstID == 0 {
		d.FirstID = response.GetFirstId()
	}
	if response.GetLastId() != 0 {
		d.LastID = response.GetLastId()
	}
}
