package manage

import (
	"crypto/sha256"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// A pattern is a body of many GiB that needs no memory.
type pattern struct {
	block      []byte
	done, size int64
}

func newPattern(size int64) *pattern {
	block, _ := blob(1<<20 + 7) // no multiple of a window
	return &pattern{block: block, size: size}
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.done == p.size {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.size-p.done)], p.block[p.done%int64(len(p.block)):])
	p.done += int64(n)
	return n, nil
}

// TestUpload_MemoryIsBounded sends more than it allows. BenchmarkUpload does so with 2 GiB.
func TestUpload_MemoryIsBounded(t *testing.T) {
	const limit = 32 << 20 // the window, and what three clients, three servers and the test's own need
	grown := sendPattern(t, 256<<20)
	if grown > limit {
		t.Errorf("%d KiB more memory, want less than %d", grown>>10, limit>>10)
	}
}

// BenchmarkUpload sends 2 GiB to three nodes in this process: with the reading for it, that is
// five times SHA-256 over all of it. The limit is 64 MiB.
func BenchmarkUpload(b *testing.B) {
	const size = 2 << 30
	b.SetBytes(size)
	for b.Loop() {
		b.ReportMetric(float64(sendPattern(b, size))/(1<<20), "MiB-grown")
	}
}

// sendPattern sends a blob of that size to three nodes, and tells by how many bytes the memory
// of the process grew at most.
func sendPattern(t testing.TB, size int64) (grown int64) {
	nodes, blobs := startNodes(t, nil, nil, nil)
	sum := sha256.New()
	io.Copy(sum, newPattern(size))
	digest := digestOf(sum.Sum(nil))
	debug.FreeOSMemory()
	before := memory()
	most := before
	over := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() { // ends with the upload
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				most = max(most, memory())
			}
		}
	})
	_, created, err := NewUploads(UploadOptions{}).Upload(t.Context(), nodes, digest, -1, newPattern(size))
	close(over)
	sampling.Wait()
	for _, n := range blobs {
		if !created || err != nil || !n.has(digest) {
			t.Fatalf("created %t, %v, %s has it: %t", created, err, n.name, n.has(digest))
		}
	}
	return most - before
}

// memory is what the process has of the system, in bytes, without what it has given back.
func memory() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}
