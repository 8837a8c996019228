package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/recording"
)

func TestMemory_StaysWithinItsLimitWhileManyWrite(t *testing.T) {
	const limit, writers = 8 << 20, 8
	for _, size := range []int{1 << 10, 16 << 10, limit/64 - 10<<10} {
		t.Run(fmt.Sprintf("entry=%d", size), func(t *testing.T) {
			m, _ := counted(limit, limit/64)
			entry := entryOf(0, size)
			bytes := int64(entry.Size())
			var most atomic.Int64
			look := func() {
				for n := int64(m.cache.EstimatedSize()) * bytes; ; { // what the map holds, counted or not
					old := most.Load()
					if n <= old || most.CompareAndSwap(old, n) {
						return
					}
				}
			}
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() {
					for i := range max(200, 4<<20/size) {
						m.put(like(entry, w<<20+i))
						look()
						m.get(numbered(w<<20 + i/2))
						if i%100 == 0 {
							m.delete(numbered(w<<20 + i - 1))
						}
					}
				})
			}
			all.Wait()
			if got := most.Load(); got > limit*11/10 || got < limit*9/10 {
				t.Errorf("held %d bytes at most, want %d and a tenth at most, and nearly that", got, limit)
			}
			if _, got := m.stats(); got > limit {
				t.Errorf("holds %d bytes in the end, want %d at most", got, limit)
			}
		})
	}
}

// What is counted is what it costs: measured, not believed.
func TestMemory_TenThousandPromptsStayWithin16MiB(t *testing.T) {
	const (
		limit = 16 << 20
		// allowance is for what does not grow with what is put: the counts of what is asked for,
		// the map and the buffers of otter, some 200 KiB, and what else the process does meanwhile.
		allowance = 512 << 10
	)
	random := rand.New(rand.NewPCG(3, 4))
	much := text(random, 1<<20)
	piece := func(n int) []byte { // making each anew takes the test's time
		at := random.IntN(len(much) - n)
		return much[at : at+n]
	}
	for _, c := range []struct {
		name             string
		entries          int
		question, frames int // bytes
	}{
		{"prompts and answers of 4 KiB", 10_000, 4 << 10, 128},
		{"short ones", 20_000, 60, 8}, // what an entry costs beside its payload weighs most here
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := func(i int) *Entry {
				m := sampleMeta()
				m.Key = numbered(i)
				a := Answer{Question: piece(c.question)}
				for range 32 {
					a.Frames = append(a.Frames, recording.Frame{Data: piece(c.frames)})
				}
				return NewEntry(m, a)
			}
			e := answer(0)
			mustOpen(t, e) // now encoder and decoder have their buffers, which are not the cache's
			before := heap()
			m, _ := counted(limit, limit/64)
			worst := int64(0)
			for i := range c.entries {
				m.put(answer(i))
				if i%(c.entries/5) == 1 {
					worst = max(worst, heap()-before)
				}
			}
			worst = max(worst, heap()-before)
			n, bytes := m.stats()
			if bytes > limit || bytes < limit*95/100 || n >= c.entries {
				t.Errorf("%d of %d entries, %d bytes; want the limit of %d nearly used", n, c.entries, bytes, limit)
			}
			t.Logf("%d entries of %d bytes take %.3f of the limit", n, e.Size(), float64(worst)/limit)
			if most := int64(limit*11/10 + allowance); worst > most {
				t.Errorf("heap grew by %d, want %d at most", worst, most)
			}
			runtime.KeepAlive(m)
		})
	}
}

// heap is what is reachable, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC() // the second frees what the first found to be finalized or pooled
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

func TestMemory_FloodOfOneOffPromptsLeavesTheHotSet(t *testing.T) {
	const limit, size, hot, flood = 16 << 20, 4 << 10, 500, 10_000
	for _, c := range []struct {
		name    string
		between int  // one of the hot is asked for after so many of the flood; 0: none meanwhile
		emptier bool // they were hot while the memory was nearly empty
	}{
		{"asked for meanwhile", 10, false},
		{"asked for before only", 0, false},
		{"asked for while there was room", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := counted(limit, limit/64)
			entry := entryOf(0, size)
			if !c.emptier {
				for i := range 5000 {
					m.put(like(entry, 1<<20+i))
				}
			}
			random := rand.New(rand.NewPCG(5, 6))
			ask := func(i int) bool {
				if m.get(numbered(i)) != nil {
					return true
				}
				m.put(like(entry, i))
				return false
			}
			for range 20 * hot {
				ask(random.IntN(hot))
			}
			hits, asked := 0, 0
			for i := range flood {
				m.put(like(entry, 1<<24+i))
				if c.between > 0 && i%c.between == 0 {
					asked++
					if ask(random.IntN(hot)) {
						hits++
					}
				}
			}
			left := 0
			for i := range hot {
				if m.get(numbered(i)) != nil {
					left++
				}
			}
			if left < hot*98/100 || hits < asked*98/100 {
				t.Errorf("%d of %d hot ones left, %d of %d hits meanwhile", left, hot, hits, asked)
			}
		})
	}
}

// text is random and of letters only.
func text(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(random.IntN(26))
	}
	return b
}
