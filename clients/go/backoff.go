package eventstream

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how pauses grow: each is drawn from the upper half of a time that
// begins with Initial and doubles up to Max. Zero: 100 ms and 10 s.
type Backoff struct {
	Initial, Max time.Duration
}

// delay is the pause after the given attempt, counted from 1. least is what
// the service asks for.
func (b Backoff) delay(attempt int, least time.Duration) time.Duration {
	longest := b.Max
	if longest <= 0 {
		longest = 10 * time.Second
	}
	pause := b.Initial
	if pause <= 0 {
		pause = 100 * time.Millisecond
	}
	for ; attempt > 1 && pause < longest; attempt-- {
		pause *= 2
	}
	pause = min(pause, longest)
	return max(pause/2+rand.N(pause-pause/2+1), least)
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
