package simnode

import (
	"cmp"
	"context"
	"time"
)

// troubles are what the faults of one request ask of what lies below its handler. They travel in its context.
type troubles struct {
	slow      float64 // 0 means 1
	crash     bool
	crashAt   int // tokens
	loadFails string
	fileGone  bool
	busy      bool
	missing   bool
	noSpace   bool
	tags, ps  []string
}

type troublesKey struct{}

func withTroubles(ctx context.Context, faults []*Fault) context.Context {
	t := troubles{slow: 1}
	for _, f := range faults {
		t.slow *= cmp.Or(f.Slow, 1)
		if f.Crash && (!t.crash || f.Frames < t.crashAt) {
			t.crash, t.crashAt = true, f.Frames
		}
		t.loadFails = cmp.Or(t.loadFails, f.LoadFails)
		t.fileGone = t.fileGone || f.FileGone
		t.busy = t.busy || f.Busy
		t.missing = t.missing || f.Missing
		t.noSpace = t.noSpace || f.NoSpace
		t.tags = append(t.tags, f.Tags...)
		t.ps = append(t.ps, f.PS...)
	}
	return context.WithValue(ctx, troublesKey{}, t)
}

// troublesOf returns none for a request that no fault struck.
func troublesOf(ctx context.Context) troubles {
	t, _ := ctx.Value(troublesKey{}).(troubles)
	return t
}

// scaled converts a simulated duration to the time it takes here.
func (n *Node) scaled(ctx context.Context, d time.Duration) time.Duration {
	return time.Duration(float64(d) * n.opts.Scale * cmp.Or(troublesOf(ctx).slow, 1))
}

// pass lets simulated time pass. It returns the context's cause when that ends first.
func pass(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
