package manage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/transport"
)

// A blobNode keeps digests of what it was sent, as a real one keeps blobs.
type blobNode struct {
	*transport.Transport
	name string
	url  *url.URL
	post http.HandlerFunc // instead of a node's own behaviour

	posts   atomic.Int32 // begun
	running atomic.Int32
	mu      sync.Mutex // guards what follows
	blobs   map[string]bool
}

func (n *blobNode) Name() string  { return n.name }
func (n *blobNode) URL() *url.URL { return n.url }

func (n *blobNode) has(digest string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.blobs[digest]
}

func (n *blobNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	digest := strings.TrimPrefix(r.URL.Path, "/api/blobs/")
	if r.Method == http.MethodHead {
		if !n.has(digest) {
			w.WriteHeader(http.StatusNotFound)
		}
		return
	}
	n.posts.Add(1)
	n.running.Add(1)
	defer n.running.Add(-1)
	if n.post != nil {
		n.post(w, r)
		return
	}
	n.keep(w, r)
}

// keep does as a node does. What it finds to be another blob it keeps nevertheless, under that
// one's digest.
func (n *blobNode) keep(w http.ResponseWriter, r *http.Request) {
	digest := strings.TrimPrefix(r.URL.Path, "/api/blobs/")
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	got := digestOf(sum.Sum(nil))
	n.mu.Lock()
	n.blobs[got] = true
	n.mu.Unlock()
	if got != digest {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"digest mismatch, expected %s, got %s"}`, digest, got)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// startNodes starts nodes called a, b, c and so on.
func startNodes(t testing.TB, posts ...http.HandlerFunc) (nodes []Node, blobs []*blobNode) {
	for i, post := range posts {
		n := &blobNode{Transport: transport.New(transport.Options{}), name: string(rune('a' + i)), post: post, blobs: make(map[string]bool)}
		server := httptest.NewServer(n)
		t.Cleanup(server.Close)
		t.Cleanup(n.CloseIdleConnections)
		n.url, _ = url.Parse(server.URL)
		nodes, blobs = append(nodes, n), append(blobs, n)
	}
	return nodes, blobs
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// blob is a body of n bytes and its digest.
func blob(n int) (body []byte, digest string) {
	body = make([]byte, n)
	for i := range body {
		body[i] = byte(i * 7 >> 3)
	}
	sum := sha256.Sum256(body)
	return body, digestOf(sum[:])
}

// untouched is a body that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // real connections know no virtual time
	}
}

// checkFailures checks which nodes failed, and why.
func checkFailures(t *testing.T, results []Result, want ...string) {
	t.Helper()
	var got []string
	for _, r := range results {
		if r.Failure != nil {
			got = append(got, r.Node.Name()+": "+string(r.Failure.Reason))
			if strings.Contains(r.Failure.Text(), "127.0.0.1") {
				t.Errorf("an address in %q", r.Failure.Text())
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("failed %q, want %q (%v)", got, want, results)
	}
}

func TestUpload_EveryNodeThatLacksABlobGetsIt(t *testing.T) {
	for name, c := range map[string]struct {
		size  int
		known bool
	}{
		"known length":            {3 << 20, true},
		"unknown length":          {3 << 20, false},
		"one byte":                {1, true},
		"one byte, not told":      {1, false},
		"nothing":                 {0, true},
		"nothing, not told":       {0, false},
		"a window exactly":        {1 << 20, true},
		"a window, not told":      {1 << 20, false},
		"a byte more than window": {1<<20 + 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, blobs := startNodes(t, nil, nil, nil)
			body, digest := blob(c.size)
			blobs[1].blobs[digest] = true
			length := int64(c.size)
			if !c.known {
				length = -1
			}
			uploads := NewUploads(UploadOptions{Window: 1 << 20})
			checkFailures(t, HasBlob(t.Context(), nodes, digest, Options{}), "a: refused", "c: refused")
			results, created, err := uploads.Upload(t.Context(), nodes, digest, length, iotest.HalfReader(bytes.NewReader(body)))
			if !created || err != nil {
				t.Fatalf("created %t, %v", created, err)
			}
			checkFailures(t, results)
			for _, n := range blobs {
				if !n.has(digest) {
					t.Errorf("%s lacks the blob", n.name)
				}
			}
			if n := blobs[1].posts.Load(); n != 0 {
				t.Errorf("b was sent %d blobs", n)
			}
			_, created, err = uploads.Upload(t.Context(), nodes, digest, length, untouched{t})
			if created || err != nil {
				t.Errorf("the second time: created %t, %v", created, err)
			}
		})
	}
}

func TestUpload_NoNodeKeepsABlobOfAnotherDigest(t *testing.T) {
	_, digest := blob(1)
	for name, c := range map[string]struct{ size, length int }{
		"known length": {2 << 20, 2 << 20}, "unknown length": {2 << 20, -1}, "nothing": {0, 0}, "nothing, not told": {0, -1},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, blobs := startNodes(t, nil, nil)
			body, other := blob(c.size)
			_, _, err := NewUploads(UploadOptions{}).Upload(t.Context(), nodes, digest, int64(c.length), bytes.NewReader(body))
			want := fmt.Sprintf("digest mismatch, expected %q, got %q", digest, other)
			var mismatch *DigestMismatch
			if !errors.As(err, &mismatch) || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			for _, n := range blobs {
				eventually(t, n.name+" hears the end", func() bool { return n.running.Load() == 0 })
				if n.has(digest) || n.has(other) {
					t.Errorf("%s keeps it", n.name)
				}
			}
		})
	}
}

func TestUpload_AFailingNodeIsNamedAndTheOthersKeepTheBlob(t *testing.T) {
	cut := func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 1<<20)
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		post   http.HandlerFunc
		reason Reason // "" if it counts as having the blob
	}{
		"dies":                {cut, Lost},
		"has no quota":        {answer(500, `{"error":"write /var/x: disk quota exceeded"}`), NoSpace},
		"finds no space":      {answer(500, `{"error":"write /var/x: no space left on device"}`), NoSpace},
		"refuses":             {answer(403, ""), Refused},
		"redirects":           {answer(302, ""), Refused},
		"got it damaged":      {answer(400, `{"error":"digest mismatch, expected x"}`), Refused},
		"has it meanwhile":    {answer(200, ""), ""},
		"reads, then refuses": {func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); w.WriteHeader(500) }, Refused},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, blobs := startNodes(t, nil, c.post, nil)
			body, digest := blob(8 << 20)
			results, created, err := NewUploads(UploadOptions{Window: 1 << 20}).Upload(t.Context(), nodes, digest, int64(len(body)), bytes.NewReader(body))
			if !created || err != nil {
				t.Errorf("created %t, %v", created, err)
			}
			if c.reason != "" {
				checkFailures(t, results, "b: "+string(c.reason))
			} else {
				checkFailures(t, results)
			}
			if !blobs[0].has(digest) || !blobs[2].has(digest) {
				t.Error("a or c lacks the blob")
			}
		})
	}
}

func TestUpload_NodesThatCannotBeAskedAreNamed(t *testing.T) {
	nodes, blobs := startNodes(t, nil, nil, answer(500, ""))
	body, digest := blob(100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	blobs[0].url = &url.URL{Scheme: "http", Host: l.Addr().String()}
	uploads := NewUploads(UploadOptions{})
	results, created, err := uploads.Upload(t.Context(), nodes, digest, 100, bytes.NewReader(body))
	if !created || err != nil {
		t.Errorf("created %t, %v", created, err)
	}
	checkFailures(t, results, "a: unreachable", "c: refused")
	if !blobs[1].has(digest) {
		t.Error("b lacks the blob")
	}
}

// gated reads nothing of a blob before the gate opens.
func gated(gate <-chan struct{}, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-time.After(time.Minute): // a test that has failed
		}
		then(w, r)
	}
}

// counted counts what is read of it.
type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestUpload_TheSlowestNodeHoldsTheClientBack(t *testing.T) {
	gate := make(chan struct{})
	nodes, blobs := startNodes(t, nil, nil)
	blobs[1].post = gated(gate, blobs[1].keep)
	const size, window = 64 << 20, 1 << 20
	body, digest := blob(size)
	read := &counted{Reader: bytes.NewReader(body)}
	var err error
	done := make(chan struct{})
	go func() { // ends with the upload
		defer close(done)
		_, _, err = NewUploads(UploadOptions{Window: window}).Upload(t.Context(), nodes, digest, size, read)
	}()
	// More than the window only the buffers of one connection hold.
	eventually(t, "the client is held back", func() bool {
		before := read.n.Load()
		time.Sleep(200 * time.Millisecond)
		return before > window && read.n.Load() == before
	})
	if n := read.n.Load(); n > size/2 {
		t.Errorf("%d bytes read for a node that takes nothing", n)
	}
	close(gate)
	<-done
	if err != nil || !blobs[0].has(digest) || !blobs[1].has(digest) {
		t.Errorf("%v, a %t, b %t", err, blobs[0].has(digest), blobs[1].has(digest))
	}
}

func TestUpload_ANodeThatStallsIsGivenUp(t *testing.T) {
	for name, size := range map[string]int{"in the middle": 32 << 20, "at the answer": 100} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			defer close(gate)
			nodes, blobs := startNodes(t, nil, gated(gate, answer(201, "")), nil)
			body, digest := blob(size)
			uploads := NewUploads(UploadOptions{Window: 1 << 20, Options: Options{Stall: time.Second}})
			results, _, err := uploads.Upload(t.Context(), nodes, digest, int64(size), bytes.NewReader(body))
			if err != nil {
				t.Error(err)
			}
			checkFailures(t, results, "b: stalled")
			if !blobs[0].has(digest) || !blobs[2].has(digest) {
				t.Error("a or c lacks the blob")
			}
		})
	}
}

// The client's time is not the node's.
func TestUpload_ASlowClientIsNoStalledNode(t *testing.T) {
	nodes, _ := startNodes(t, nil, nil)
	body, digest := blob(100)
	r, w := io.Pipe()
	stall := 300 * time.Millisecond
	go func() { // ends with the pipe
		w.Write(body[:50])
		time.Sleep(3 * stall)
		w.Write(body[50:])
		w.Close()
	}()
	if _, created, err := NewUploads(UploadOptions{Options: Options{Stall: stall}}).Upload(t.Context(), nodes, digest, 100, r); !created || err != nil {
		t.Errorf("created %t, %v", created, err)
	}
}

func TestUpload_AClientThatLeavesEndsAll(t *testing.T) {
	gone := errors.New("gone")
	for name, leave := range map[string]func(w *io.PipeWriter, cancel func()){
		"its body breaks off": func(w *io.PipeWriter, _ func()) { w.CloseWithError(gone) },
		"its context ends":    func(w *io.PipeWriter, cancel func()) { cancel(); w.CloseWithError(gone) },
	} {
		t.Run(name, func(t *testing.T) {
			nodes, blobs := startNodes(t, nil, nil, nil)
			_, digest := blob(100)
			ctx, cancel := context.WithCancelCause(t.Context())
			r, w := io.Pipe()
			var err error
			done := make(chan struct{})
			go func() { // ends with the upload
				defer close(done)
				_, _, err = NewUploads(UploadOptions{}).Upload(ctx, nodes, digest, -1, r)
			}()
			w.Write(make([]byte, 1<<20))
			leave(w, func() { cancel(gone) })
			<-done
			if !errors.Is(err, gone) {
				t.Errorf("error %v", err)
			}
			for _, n := range blobs {
				eventually(t, n.name+" hears the end", func() bool { return n.running.Load() == 0 })
				if len(n.blobs) > 0 {
					t.Errorf("%s keeps a part", n.name)
				}
			}
		})
	}
}
