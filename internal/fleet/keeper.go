package fleet

import (
	"context"
	"time"
)

// keep brings about what time alone changes: ejections that end, shares that grow, faults
// that no longer count. It ends with ctx.
func (f *Fleet) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.stirred:
		case <-timer.C:
		}
		if next := f.ageAll(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// ageAll settles all nodes and tells when that is due again; zero: after the next stir.
func (f *Fleet) ageAll() (next time.Time) {
	o := f.opts.Load()
	changed := false
	for _, n := range f.configuredNodes() {
		n.mu.Lock()
		c := n.settleLocked(o)
		due := n.next
		n.mu.Unlock()
		f.noteChange(c)
		changed = changed || c.any
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	if changed {
		f.publish()
	}
	return next
}

// stir has the keeper look when it is due next. It never blocks.
func (f *Fleet) stir() {
	select {
	case f.stirred <- struct{}{}:
	default:
	}
}
