package eventstream

import (
	"context"
	"sync"
)

// group is what the service pushed together.
type group struct {
	events  []Event
	lastID  int64
	skipped int64
}

// queue is between the reader and the handler. That of a reliable receiver has
// no bound of its own: the service waits at its window, and empty groups, which
// do not count there, melt into one.
type queue struct {
	mutex   sync.Mutex
	groups  []group
	limit   int           // 0: none
	filled  chan struct{} // told after a push
	emptied chan struct{} // told after a take
}

func newQueue(live bool) *queue {
	q := &queue{filled: make(chan struct{}, 1), emptied: make(chan struct{}, 1)}
	if live {
		q.limit = liveQueueGroups
	}
	return q
}

// push waits for room, unless ctx ends.
func (q *queue) push(ctx context.Context, g group) {
	for !q.offer(g) {
		select {
		case <-q.emptied:
		case <-ctx.Done():
			return
		}
	}
	tell(q.filled)
}

func (q *queue) offer(g group) bool {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if last := len(q.groups) - 1; last >= 0 && len(g.events) == 0 {
		q.groups[last].lastID = g.lastID
		q.groups[last].skipped += g.skipped
		return true
	}
	if q.limit > 0 && len(q.groups) >= q.limit {
		return false
	}
	q.groups = append(q.groups, g)
	return true
}

// take returns all groups, as soon as there is one. After the end of ctx there
// are none.
func (q *queue) take(ctx context.Context) ([]group, error) {
	select {
	case <-q.filled:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, errHalted
	}
	return q.all(), nil
}

func (q *queue) all() []group {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	groups := q.groups
	q.groups = nil
	tell(q.emptied)
	return groups
}

// tell leaves one word, and does nothing if there is one.
func tell(told chan struct{}) {
	select {
	case told <- struct{}{}:
	default:
	}
}
