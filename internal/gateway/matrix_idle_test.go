package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

const (
	idleStreams     = 300 // so many answers that have begun and say nothing more
	idleConnections = 300
)

// 40, in small: bench/ has it in full.
func TestMatrix_IdleStreamsAndConnectionsHinderNobody(t *testing.T) {
	t.Run("memory", func(t *testing.T) { synctest.Test(t, idleMemory) })
	t.Run("sockets", idleSockets)
}

// A pausing transport answers inference with one record and then nothing, out of no memory of
// its own.
type pausing struct{ http.RoundTripper }

const oneRecord = `{"model":"tiny","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"x"},"done":false}` + "\n"

func (p pausing) RoundTrip(r *http.Request) (*http.Response, error) {
	if !inference(r) {
		return p.RoundTripper.RoundTrip(r)
	}
	r.Body.Close()
	return &http.Response{
		StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: -1,
		Header: http.Header{"Content-Type": {"application/x-ndjson"}},
		Body:   &pause{ctx: r.Context(), left: oneRecord},
	}, nil
}

type pause struct {
	ctx  context.Context
	left string
}

func (p *pause) Read(b []byte) (int, error) {
	if p.left == "" {
		<-p.ctx.Done()
		return 0, context.Cause(p.ctx)
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

func (p *pause) Close() error { return nil }

// A discarding writer is a client that takes all.
type discarding struct{ header http.Header }

func (d discarding) Header() http.Header         { return d.header }
func (d discarding) Write(p []byte) (int, error) { return len(p), nil }
func (d discarding) WriteHeader(int)             {}
func (d discarding) FlushError() error           { return nil }

// idleMemory measures what the engine needs for a stream: its goroutines' stacks, too, and not
// what sockets, servers and nodes need.
func idleMemory(t *testing.T) {
	pipe := simnode.NewPipe(goldenNode(t, 0.01))
	t.Cleanup(pipe.Close)
	r := newRig(t, rigOptions{config: Config{Nodes: []fleet.NodeConfig{{
		Name: "n0", URL: &url.URL{Scheme: "http", Host: "localhost:11434"}, Slots: 2 * idleStreams, Transport: pausing{pipe},
	}}}})
	site, err := NewSite(SiteConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var streams sync.WaitGroup
	begin := func(n int) context.CancelFunc {
		ctx, cancel := context.WithCancel(t.Context())
		for range n {
			q := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/api/chat", strings.NewReader(chatBody))
			streams.Go(func() { r.settings.Serve(discarding{http.Header{}}, q, Entry{Site: site}) }) // ends with ctx
		}
		synctest.Wait()
		if got := r.engine.InFlight(); got != n {
			t.Fatalf("%d streams are on their way, want %d", got, n)
		}
		return cancel
	}
	used := func() uint64 {
		runtime.GC()
		runtime.GC() // what a pool kept goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	begin(idleStreams)() // what is made once, and what the runtime keeps of goroutines, is there
	streams.Wait()
	before := used()
	end := begin(idleStreams)
	time.Sleep(30 * time.Second)
	synctest.Wait()
	each := (int64(used()) - int64(before)) / idleStreams
	if each > 64<<10 {
		t.Errorf("an idle stream needs %d bytes, want at most 64 KiB", each)
	}
	end()
	streams.Wait()
	synctest.Wait()
	r.idle()
	// The runtime keeps some of it: what would leak is most of it.
	if left := (int64(used()) - int64(before)) / idleStreams; left > each/2 {
		t.Errorf("%d of %d bytes a stream are left when all are gone", left, each)
	}
}

// idleSockets holds streams and kept connections open on real sockets and asks beside them.
func idleSockets(t *testing.T) {
	s := newStreet(t, 1, 2*idleStreams, time.Second)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 10 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(n int) (slowest time.Duration) {
		for range n {
			began := time.Now()
			resp, err := client.Post(s.front.URL+"/api/chat", "application/json", strings.NewReader(forms[0].body))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.Contains(string(answer), `"done":true`) {
				t.Errorf("%d %s %v", resp.StatusCode, answer, err)
			}
			slowest = max(slowest, time.Since(began))
		}
		return slowest
	}
	ask(5)
	goroutines := runtime.NumGoroutine()

	var open []net.Conn
	hang := func(request string) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.front.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(conn, request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	s.fail(t, "gap=1h")
	body := forms[0].body
	for range idleStreams {
		hang(fmt.Sprintf("POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	if err := s.nodes[0].SetFaults(); err != nil { // those that run go on as they began
		t.Fatal(err)
	}
	for range idleConnections {
		hang("GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	if n := s.engine.InFlight(); n != idleStreams {
		t.Errorf("%d streams are on their way, want %d", n, idleStreams)
	}
	if slowest := ask(50); slowest > time.Second {
		t.Errorf("a request beside %d idle streams took %v", idleStreams, slowest)
	}
	for _, conn := range open {
		conn.Close()
	}
	client.CloseIdleConnections()
	settled := func() bool { // an outcome is told when the request is no longer on its way
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.begun) == len(s.records)
	}
	gone := func() bool {
		return settled() && s.engine.InFlight() == 0 && s.engine.streams.used.Load() == 0 && s.engine.bodies.used.Load() == 0 &&
			s.nodes[0].Stats().Running == 0 && runtime.NumGoroutine() <= goroutines+10
	}
	for end := time.Now().Add(10 * time.Second); !gone(); {
		if time.Now().After(end) {
			t.Fatalf("left: %d on their way, outcomes of all: %t, %d at the node, %d goroutines of %d", s.engine.InFlight(), settled(), s.nodes[0].Stats().Running, runtime.NumGoroutine(), goroutines)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
