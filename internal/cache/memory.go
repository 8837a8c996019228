package cache

import (
	"math"
	"sync"

	"github.com/maypok86/otter/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

const (
	// evictedForRoom is why an entry was dropped that nobody wanted away: for metrics.
	evictedForRoom = "size"

	// usualEntry is the size in bytes by which the number of entries is guessed: that of a chat
	// answer of 300 frames.
	usualEntry = 4 << 10
	// expectedMost bounds that number: what is made for it at once takes some 40 bytes each.
	expectedMost = 1 << 20
)

// A memory keeps answers in the process, up to a number of bytes. For room it drops those that
// are asked for seldom: one that is new stays only if it is asked for more often than what would
// have to go, after a moment in which that can show. It looks at no time: what an entry is worth
// is judged by who gets it. It has no goroutines, needs no Close and is safe for concurrent use.
type memory struct {
	cache   *otter.Cache[call.Key, *Entry]
	evicted func(reason string)

	// mu is held while something is put. otter bounds what it holds after each write; only one
	// write at a time makes that a bound on what it holds in between.
	mu       sync.Mutex
	limit    int64 // bytes of all
	maxEntry int64 // bytes of one
}

// newMemory makes one that keeps limit bytes, counted by Entry.Size, and takes entries of up to
// maxEntry bytes. It holds one entry more than limit at most, at any time. evicted is called for
// each entry that is dropped for room, but not for one that is deleted or replaced; it must be
// quick and must not call the memory.
func newMemory(limit, maxEntry int64, evicted func(reason string)) *memory {
	m := &memory{evicted: evicted}
	m.cache = otter.Must(&otter.Options[call.Key, *Entry]{
		MaximumWeight: uint64(max(limit, 1)), // 0 would be no limit
		Weigher:       func(_ call.Key, e *Entry) uint32 { return uint32(e.Size()) },
		// Without it otter counts what is asked for only once it is half full, and forgets the
		// counts as it grows: what was hot before a flood would go with it.
		InitialCapacity: int(min(max(limit, 0)/usualEntry, expectedMost)),
		// Maintenance is done by who writes, before it goes on: else the bound is a wish.
		Executor: func(maintain func()) { maintain() },
		OnDeletion: func(e otter.DeletionEvent[call.Key, *Entry]) {
			if e.Cause == otter.CauseOverflow {
				m.evicted(evictedForRoom)
			}
		},
	})
	m.resize(limit, maxEntry)
	return m
}

// get gives the entry of a key, nil if there is none. It counts: what is asked for often stays.
func (m *memory) get(k call.Key) *Entry {
	e, _ := m.cache.GetIfPresent(k)
	return e
}

// put keeps an entry under its key, in place of what is there. It tells whether it took it, which
// it does not if the entry is too large. One that was taken may be dropped at once.
func (m *memory) put(e *Entry) bool {
	if len(e.payload) == 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if int64(e.Size()) > m.maxEntry {
		return false
	}
	m.cache.Set(e.Meta.Key, e)
	m.cache.CleanUp() // Set may leave it to another
	return true
}

// swap puts e in place of was, if that is still there.
func (m *memory) swap(was, e *Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if int64(e.Size()) > m.maxEntry {
		return
	}
	m.cache.ComputeIfPresent(e.Meta.Key, func(now *Entry) (*Entry, otter.ComputeOp) {
		if now != was {
			return now, otter.CancelOp
		}
		return e, otter.WriteOp
	})
	m.cache.CleanUp()
}

// delete forgets the entry of a key, if there is one.
func (m *memory) delete(k call.Key) { m.cache.Invalidate(k) }

// deleteFunc forgets the entries for which which is true and tells how many. Entries that are put
// meanwhile may be missed.
func (m *memory) deleteFunc(which func(*Meta) bool) int {
	n := 0
	for k, e := range m.cache.All() {
		if !which(&e.Meta) {
			continue
		}
		if _, was := m.cache.Invalidate(k); was {
			n++
		}
	}
	return n
}

// each calls f with each entry, in no order, until it returns false. It does not count as asking
// for them.
func (m *memory) each(f func(*Entry) bool) {
	for e := range m.cache.Values() {
		if !f(e) {
			return
		}
	}
}

// resize sets other limits, in bytes, and keeps what fits into them.
func (m *memory) resize(limit, maxEntry int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = max(limit, 0)
	m.maxEntry = min(maxEntry, m.limit, math.MaxUint32) // the last: weights are 32 bits
	for k, e := range m.cache.All() {
		if int64(e.Size()) <= m.maxEntry {
			continue
		}
		if _, was := m.cache.Invalidate(k); was {
			m.evicted(evictedForRoom)
		}
	}
	m.cache.SetMaximum(uint64(m.limit))
}

// stats tells how many entries there are and how many bytes they take, by Entry.Size.
func (m *memory) stats() (entries int, bytes int64) {
	bytes = int64(m.cache.WeightedSize()) // first: it does what is left to be done
	return m.cache.EstimatedSize(), bytes
}
