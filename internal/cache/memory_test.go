package cache

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// numbered is the key of an entry in tests.
func numbered(n int) call.Key {
	return call.Key{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
}

// entryOf has so many bytes that do not compress, beside its overhead.
func entryOf(n, bytes int) *Entry {
	return NewEntry(Meta{Key: numbered(n)}, Answer{Object: noise(bytes)})
}

// like is another entry with the same answer.
func like(e *Entry, n int) *Entry { return &Entry{Meta: Meta{Key: numbered(n)}, payload: e.payload} }

// counted makes a memory and counts what it drops for room.
func counted(limit, maxEntry int64) (*memory, *atomic.Int64) {
	evicted := new(atomic.Int64)
	return newMemory(limit, maxEntry, func(reason string) {
		if reason == evictedForRoom {
			evicted.Add(1)
		}
	}), evicted
}

func TestMemory_GivesWhatWasPut(t *testing.T) {
	m, evicted := counted(1<<20, 1<<16)
	first, second, other := entryOf(1, 100), entryOf(1, 5000), entryOf(2, 100)
	if m.get(numbered(1)) != nil {
		t.Error("an empty memory has an entry")
	}
	for _, e := range []*Entry{first, other, second} {
		if !m.put(e) || m.get(e.Meta.Key) != e {
			t.Fatal("an entry is not there right after it was put")
		}
	}
	if n, bytes := m.stats(); n != 2 || bytes != int64(second.Size()+other.Size()) {
		t.Errorf("%d entries of %d bytes, want 2 of %d", n, bytes, second.Size()+other.Size())
	}
	m.delete(numbered(1))
	m.delete(numbered(3))
	if m.get(numbered(1)) != nil || m.get(numbered(2)) != other {
		t.Error("the wrong entry was deleted")
	}
	if n, bytes := m.stats(); n != 1 || bytes != int64(other.Size()) {
		t.Errorf("%d entries of %d bytes, want 1 of %d", n, bytes, other.Size())
	}
	if evicted.Load() != 0 {
		t.Errorf("%d evictions told of deletions and replacements", evicted.Load())
	}
}

func TestMemory_RefusesWhatIsTooLarge(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		name            string
		limit, maxEntry int64
		bytes           int
		taken           bool
	}{
		{"small", limit, limit / 64, 1000, true},
		{"larger than one may be", limit, limit / 64, limit / 64, false},
		{"larger than all", limit, limit * 2, limit, false},
		{"no room at all", 0, 1 << 10, 1, false},
		{"nothing allowed", limit, 0, 1, false},
		{"negative", -1, -1, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := counted(c.limit, c.maxEntry)
			e := entryOf(1, c.bytes)
			if taken := m.put(e); taken != c.taken || (m.get(e.Meta.Key) != nil) != c.taken {
				t.Errorf("taken %v, want %v", taken, c.taken)
			}
		})
	}
	m, _ := counted(1<<30, 1<<30)
	if m.put(NewEntry(Meta{}, Answer{Object: make([]byte, decodedLimit+1)})) {
		t.Error("an answer that can never be opened was taken")
	}
}

func TestMemory_ForgetsAllThatIsMeant(t *testing.T) {
	m, evicted := counted(1<<20, 1<<16)
	for i := range 100 {
		e := entryOf(i, 100)
		e.Meta.Identity = []string{"old", "new"}[i%2]
		m.put(e)
	}
	if n := m.deleteFunc(func(e *Meta) bool { return e.Identity == "old" }); n != 50 {
		t.Errorf("%d forgotten, want 50", n)
	}
	seen := 0
	m.each(func(e *Entry) bool {
		seen++
		if e.Meta.Identity != "new" {
			t.Errorf("%s is still there", e.Meta.Identity)
		}
		return true
	})
	if n, _ := m.stats(); n != 50 || seen != 50 || evicted.Load() != 0 {
		t.Errorf("%d entries, %d seen, %d evicted; want 50, 50, 0", n, seen, evicted.Load())
	}
	seen = 0
	m.each(func(*Entry) bool { seen++; return seen < 3 })
	if seen != 3 {
		t.Errorf("%d seen after the end was asked for, want 3", seen)
	}
}

func TestMemory_ResizeKeepsWhatFits(t *testing.T) {
	const size = 4 << 10
	for _, c := range []struct {
		name            string
		limit, maxEntry int64
		least, most     int // of 100 entries, one of them large
	}{
		{"more room", 8 << 20, 1 << 16, 100, 100},
		{"as before", 1 << 20, 1 << 16, 100, 100},
		{"half of it", 50 * size, 1 << 16, 25, 50},
		{"smaller entries", 1 << 20, 2 * size, 99, 99},
		{"none", 0, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, evicted := counted(1<<20, 1<<16)
			for i := range 99 {
				m.put(entryOf(i, size))
			}
			large := entryOf(99, 8*size)
			m.put(large)
			m.resize(c.limit, c.maxEntry)
			n, bytes := m.stats()
			if n < c.least || n > c.most || bytes > c.limit {
				t.Errorf("%d entries of %d bytes, want %d to %d of %d", n, bytes, c.least, c.most, c.limit)
			}
			if int64(large.Size()) > c.maxEntry && m.get(large.Meta.Key) != nil {
				t.Error("an entry is there that is larger than one may be")
			}
			if got := int(evicted.Load()); got != 100-n {
				t.Errorf("%d evictions told, want %d", got, 100-n)
			}
			if again := entryOf(7, size); m.put(again) != (c.maxEntry > size) {
				t.Error("the new limit of an entry does not hold")
			}
		})
	}
}

// Whatever is done, in whatever order: the bytes are those of the entries, and within the limit.
func TestMemory_BooksAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := int64(200 << 10)
		m, evicted := counted(limit, limit/8)
		put := map[call.Key]*Entry{}
		gone := 0 // deleted or replaced
		puts := 0
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				e := entryOf(rapid.IntRange(0, 60).Draw(t, "key"), rapid.IntRange(0, 12_000).Draw(t, "bytes"))
				if m.get(e.Meta.Key) != nil {
					gone++
				}
				if taken := m.put(e); !taken {
					t.Fatal("not taken")
				}
				puts++
				put[e.Meta.Key] = e
			},
			"get": func(t *rapid.T) {
				k := numbered(rapid.IntRange(0, 60).Draw(t, "key"))
				if e := m.get(k); e != nil && e != put[k] {
					t.Fatal("another entry than the last that was put")
				}
			},
			"delete": func(t *rapid.T) {
				k := numbered(rapid.IntRange(0, 60).Draw(t, "key"))
				if m.get(k) != nil {
					gone++
				}
				m.delete(k)
				delete(put, k)
			},
			"delete some": func(t *rapid.T) {
				rest := byte(rapid.IntRange(0, 4).Draw(t, "rest"))
				gone += m.deleteFunc(func(e *Meta) bool { return e.Key[0]%5 == rest })
			},
			"resize": func(t *rapid.T) {
				limit = int64(rapid.IntRange(128<<10, 400<<10).Draw(t, "limit"))
				m.resize(limit, limit/8)
			},
			"": func(t *rapid.T) {
				n, bytes := m.stats()
				seen, sum := 0, int64(0)
				m.each(func(e *Entry) bool {
					seen++
					sum += int64(e.Size())
					return true
				})
				if n != seen || bytes != sum || bytes > limit {
					t.Fatalf("%d entries of %d bytes told, %d of %d there, limit %d", n, bytes, seen, sum, limit)
				}
				if all := n + gone + int(evicted.Load()); all != puts {
					t.Fatalf("%d put; %d there, %d deleted or replaced, %d evicted", puts, n, gone, evicted.Load())
				}
			},
		})
	})
}

func TestMemory_LeavesNoGoroutine(t *testing.T) {
	others := goleak.IgnoreCurrent()
	m, _ := counted(1<<20, 1<<16)
	for i := range 1000 {
		m.put(entryOf(i, 4<<10))
		m.get(numbered(i))
	}
	m.resize(1<<18, 1<<14)
	goleak.VerifyNone(t, others)
}

func TestMemory_ReadingAllocatesNothing(t *testing.T) {
	m, _ := counted(1<<20, 1<<16)
	for i := range 1000 {
		m.put(entryOf(i, 1<<10))
	}
	i := 0
	if n := testing.AllocsPerRun(10_000, func() { m.get(numbered(i % 2000)); i++ }); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}

func BenchmarkMemory(b *testing.B) {
	const limit, size = 64 << 20, 4 << 10
	m := newMemory(limit, limit/64, func(string) {})
	entry := entryOf(0, size)
	entries := make([]*Entry, 2*limit/size)
	for i := range entries {
		entries[i] = like(entry, i)
		m.put(entries[i])
	}
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for i := rand.IntN(len(entries)); p.Next(); i++ {
				m.get(entries[i%len(entries)].Meta.Key)
			}
		})
	})
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for i := rand.IntN(len(entries)); p.Next(); i++ {
				m.put(entries[i%len(entries)])
			}
		})
	})
}
