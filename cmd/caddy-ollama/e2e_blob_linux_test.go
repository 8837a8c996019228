package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var blobSize = flag.Int64("blob.size", 512<<20, "bytes of the blob in TestModels_ABlobNeedsLittleMemory")

// mostGrown is by how much a blob of any size may let the gateway grow.
const mostGrown = 64 << 20

// A pattern is a body of any size that needs no memory.
type pattern struct {
	block      []byte
	done, size int64
}

func newPattern(size int64) *pattern {
	p := &pattern{block: make([]byte, 1<<20+7), size: size} // no multiple of anybody's buffer
	for i := range p.block {
		p.block[i] = byte(i * 7 >> 3)
	}
	return p
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.done == p.size {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.size-p.done)], p.block[p.done%int64(len(p.block)):])
	p.done += int64(n)
	return n, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A summer is a node that takes blobs and keeps no more than their sums, by a hash that costs next to nothing.
type summer struct {
	*httptest.Server
	mu   sync.Mutex // guards what follows
	sums map[string]uint32
}

func startSummer(t *testing.T) *summer {
	s := &summer{sums: make(map[string]uint32)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *summer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	digest, isBlob := strings.CutPrefix(r.URL.Path, "/api/blobs/")
	switch {
	case r.URL.Path == "/api/version":
		io.WriteString(w, `{"version":"0.24.0"}`)
	case !isBlob:
		io.WriteString(w, `{"models":[]}`)
	case r.Method == http.MethodPost:
		sum := crc32.New(castagnoli)
		if _, err := io.Copy(sum, r.Body); err != nil {
			return
		}
		s.mu.Lock()
		s.sums[digest] = sum.Sum32()
		s.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	case s.sum(digest) == 0:
		w.WriteHeader(http.StatusNotFound)
	}
}

// sum is that of a blob, 0 if it is not there.
func (s *summer) sum(digest string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sums[digest]
}

var residentForm = regexp.MustCompile(`(?m)^Vm(HWM|RSS):\s+([0-9]+) kB$`)

// resident is what the process holds in memory now, and the most it ever did, in bytes.
func (p *process) resident() (now, most int64) {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, found := range residentForm.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseInt(found[2], 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		if found[1] == "HWM" {
			most = n << 10
		} else {
			now = n << 10
		}
	}
	if now == 0 || most == 0 {
		p.t.Fatalf("no sizes in %s", text)
	}
	return now, most
}

// A blob on its way to three nodes is in the gateway only in a window of it. The processes that send
// and take it are others.
func TestModels_ABlobNeedsLittleMemory(t *testing.T) {
	nodes := []*summer{startSummer(t), startSummer(t), startSummer(t)}
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL)
	}
	g := startUp(t, []string{"OLLAMA_NODES=" + strings.Join(urls, ",")})
	g.waitForNodes("three nodes that are up", func(nodes []nodeStatus) bool {
		up := 0
		for _, n := range nodes {
			if n.State == "up" {
				up++
			}
		}
		return up == 3
	})
	sha, crc := sha256.New(), crc32.New(castagnoli)
	io.Copy(io.MultiWriter(sha, crc), newPattern(*blobSize))
	digest := fmt.Sprintf("sha256:%x", sha.Sum(nil))

	before, _ := g.resident()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base("http", "localhost", g.httpPort)+"/api/blobs/"+digest, newPattern(*blobSize))
	if err != nil {
		t.Fatal(err)
	}
	client := g.client("HTTP/1.1")
	client.Timeout = 0
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	_, most := g.resident()
	t.Logf("%d MiB to three nodes in %s: the gateway had %d MiB and had %d MiB at most", *blobSize>>20, time.Since(began).Round(time.Millisecond), before>>20, most>>20)
	if grown := most - before; grown > mostGrown {
		t.Errorf("it grew by %d MiB, want less than %d", grown>>20, int64(mostGrown)>>20)
	}
	for _, n := range nodes {
		if got := n.sum(digest); got != crc.Sum32() {
			t.Errorf("%s: sum %x, want %x", n.URL, got, crc.Sum32())
		}
	}
}
