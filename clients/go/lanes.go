package eventstream

import (
	"context"
	"errors"
)

// lanes hand events of different keys to the handler side by side. An event
// waits in the lane of its key until those before it are done; a position is
// acknowledged when everything before it is done.
//
// One goroutine owns it, each event in the handler has one of its own.
type lanes struct {
	session  *session
	waiting  map[string][]*passage // by key; there while one of the key is under way
	ready    []*passage
	running  int
	finished chan *passage
	order    []*passage // those above the position
	failed   error
}

// passage is an event on its way, or the end of a group (no event).
type passage struct {
	events []Event
	key    string
	lastID int64
	done   bool
	err    error
}

func (s *session) deliverByKey(ctx context.Context) error {
	l := &lanes{session: s, waiting: make(map[string][]*passage), finished: make(chan *passage)}
	for l.failed == nil && s.halt.Err() == nil {
		l.launch(ctx)
		select {
		case <-s.halt.Done():
		case <-s.queue.filled:
			for _, group := range s.queue.all() {
				l.admit(group)
			}
		case p := <-l.finished:
			l.settle(p)
		}
	}
	l.drain()
	if l.failed == nil {
		return errHalted
	}
	return l.failed
}

func (l *lanes) admit(group group) {
	for i, event := range group.events {
		p := &passage{events: group.events[i : i+1], key: l.session.options.Key(event), lastID: event.ID}
		l.order = append(l.order, p)
		if behind, busy := l.waiting[p.key]; busy {
			l.waiting[p.key] = append(behind, p)
			continue
		}
		l.waiting[p.key] = nil
		l.ready = append(l.ready, p)
	}
	l.order = append(l.order, &passage{lastID: group.lastID, done: true})
	l.advance()
}

// launch fills the workers.
func (l *lanes) launch(ctx context.Context) {
	for ; len(l.ready) > 0 && l.running < l.session.options.Workers; l.running++ {
		p := l.ready[0]
		l.ready = l.ready[1:]
		go func() {
			p.err = l.session.attempt(ctx, p.events)
			l.finished <- p
		}()
	}
}

// settle lets the next event of the key follow.
func (l *lanes) settle(p *passage) {
	l.running--
	if p.err != nil {
		if l.failed == nil || errors.Is(l.failed, errHalted) {
			l.failed = p.err
		}
		return
	}
	p.done = true
	if behind := l.waiting[p.key]; len(behind) > 0 {
		l.ready = append(l.ready, behind[0])
		l.waiting[p.key] = behind[1:]
	} else {
		delete(l.waiting, p.key)
	}
	l.advance()
}

func (l *lanes) advance() {
	for len(l.order) > 0 && l.order[0].done {
		l.session.acks.advance(l.order[0].lastID)
		l.order = l.order[1:]
	}
}

// drain waits for what is in the handler.
func (l *lanes) drain() {
	for l.running > 0 {
		l.settle(<-l.finished)
	}
}
