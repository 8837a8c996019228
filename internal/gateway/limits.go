package gateway

import "sync/atomic"

// A budget counts what all requests use together: bytes of bodies, streams.
type budget struct{ used atomic.Int64 }

// take reserves n if that fits under limit.
func (b *budget) take(n, limit int64) bool {
	if b.used.Add(n) > limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }
