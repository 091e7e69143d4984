package eventstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
	"google.golang.org/grpc/codes"
)

// defaultHeartbeat is assumed until the service says how often they come.
const defaultHeartbeat = 30 * time.Second

// session is one push stream. One goroutine reads it into the queue, one
// acknowledges, and the one of Run hands events to the handler.
//
// Its context ends when the session is over, and the cause says why. halt ends
// then too, and when the receiver is told to stop.
type session struct {
	*receiver
	handle  GroupHandler
	groups  bool
	context context.Context
	end     context.CancelCauseFunc
	halt    context.Context
	queue   *queue
	acks    *acknowledger

	// Of the reader.
	seq     int64
	silence time.Duration
	brought bool
}

var errClosed = errors.New("eventstream: closed")

// session registers if that is missing, and receives until the stream is over.
// nil: told to stop. brought tells whether a group came.
func (r *receiver) session(ctx context.Context, handle GroupHandler, groups bool) (brought bool, err error) {
	if r.stopped() {
		return false, nil
	}
	if err := r.register(ctx); err != nil {
		return false, r.unlessStopped(err)
	}
	s := &session{receiver: r, handle: handle, groups: groups, queue: newQueue(r.live)}
	// Not ctx itself: its deadline would become the stream's.
	s.context, s.end = context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { s.end(ctx.Err()) })()
	var release context.CancelFunc
	s.halt, release = r.untilStop(s.context)
	defer release()
	s.acks = newAcknowledger(ctx, s)

	over := make(chan struct{})
	go func() {
		defer close(over)
		s.end(s.read())
	}()
	err = s.deliver(ctx)
	s.acks.finish(ctx)
	s.end(errClosed)
	<-over
	r.handled = max(s.acks.position.Load(), r.handled)
	if err == nil {
		err = r.unlessStopped(context.Cause(s.context))
	}
	return s.brought, err
}

func (r *receiver) unlessStopped(err error) error {
	if r.stopped() {
		return nil
	}
	return err
}

// read fills the queue until the stream is over, and returns why it is.
func (s *session) read() error {
	s.silence = 3 * s.options.HeartbeatInterval
	if s.silence == 0 {
		s.silence = 3 * defaultHeartbeat
	}
	watch := time.AfterFunc(s.silence, func() {
		s.end(unavailable("nothing came for three heartbeats"))
	})
	defer watch.Stop()
	stream, err := s.client.push.ReadyToReceive(s.context, s.subscription())
	if err != nil {
		return asError(err)
	}
	for {
		message, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return unavailable("the service ended the stream")
		case err != nil:
			return asError(err)
		}
		// The clock stands while the queue is full.
		watch.Stop()
		if err := s.receive(message); err != nil {
			return err
		}
		watch.Reset(s.silence)
	}
}

func (s *session) receive(message *evtv1.ReadyToReceiveResponse) error {
	switch {
	case message.GetStarted() != nil:
		s.started(message.GetStarted())
	case message.GetGroup() != nil:
		return s.group(message.GetGroup())
	case message.GetEnding() != nil:
		ending := message.GetEnding()
		s.log.InfoContext(s.context, "eventstream: the service ends the session",
			"reason", ending.GetReason(), "grace", ending.GetGrace().AsDuration())
	}
	return nil
}

func (s *session) started(started *evtv1.SubscriptionStarted) {
	s.acks.epoch.Store(started.GetEpoch())
	if interval := started.GetHeartbeatInterval().AsDuration(); interval > 0 {
		s.silence = 3 * interval
	}
	s.log.DebugContext(s.context, "eventstream: session started", "session", started.GetSessionId(),
		"epoch", started.GetEpoch(), "start_after_id", started.GetStartAfterId())
	if s.options.OnStarted != nil {
		s.options.OnStarted(Started{Epoch: started.GetEpoch(), StartAfterID: started.GetStartAfterId()})
	}
}

func (s *session) group(message *evtv1.EventGroup) error {
	if !s.live && message.GetSeq() != s.seq {
		gap := fmt.Sprintf("group %d came instead of %d", message.GetSeq(), s.seq)
		return &Error{Code: codes.Internal, Message: gap}
	}
	s.seq++
	s.brought = true
	s.queue.push(s.context, group{
		events:  eventsOf(message.GetEvents()),
		lastID:  message.GetLastId(),
		skipped: message.GetSkippedEvents(),
	})
	return nil
}

// deliver hands events to the handler until the session halts.
func (s *session) deliver(ctx context.Context) error {
	var err error
	if s.options.Workers > 1 {
		err = s.deliverByKey(ctx)
	} else {
		err = s.deliverInOrder(ctx)
	}
	if errors.Is(err, errHalted) {
		return nil
	}
	return err
}

func (s *session) deliverInOrder(ctx context.Context) error {
	for {
		groups, err := s.queue.take(s.halt)
		if err != nil {
			return err
		}
		for _, group := range groups {
			if err := s.deliverGroup(ctx, group); err != nil {
				return err
			}
		}
	}
}

func (s *session) deliverGroup(ctx context.Context, group group) error {
	s.count(group.skipped)
	size := 1
	if s.groups {
		size = max(len(group.events), 1)
	}
	for events := group.events; len(events) > 0; events = events[size:] {
		if err := s.attempt(ctx, events[:size]); err != nil {
			return err
		}
		s.acks.advance(events[size-1].ID)
	}
	s.acks.advance(group.lastID)
	return nil
}

// count adds up what a live receiver missed.
func (s *session) count(skipped int64) {
	if !s.live || skipped == 0 {
		return
	}
	total := s.dropped.Add(skipped)
	s.log.WarnContext(s.context, "eventstream: events missed", "events", skipped, "total", total)
	if s.onDropped != nil {
		s.onDropped(total)
	}
}
