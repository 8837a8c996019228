package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// stream sends body with that length; -1 is an unknown one.
func stream(t *testing.T, tr *Transport, url string, length int64, body io.ReadCloser) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	return tr.RoundTrip(r)
}

func TestTransport_StreamedBodiesArriveWhole(t *testing.T) {
	n := newNode(t, echo)
	tr := newTransport(t, Options{})
	large := bytes.Repeat([]byte("0123456789abcdef"), 2<<16)
	for name, c := range map[string]struct {
		body   []byte
		length int64
		oneBy  bool
	}{
		"unknown length":                   {large, -1, false},
		"unknown length, nothing":          {nil, -1, false},
		"unknown length, byte after byte":  {large[:500], -1, true},
		"known length, larger than a pipe": {large, int64(len(large)), false},
	} {
		body := io.Reader(bytes.NewReader(c.body))
		if c.oneBy {
			body = iotest.OneByteReader(body)
		}
		resp, err := stream(t, tr, n.URL, c.length, io.NopCloser(body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, c.body) || !strings.HasSuffix(resp.Header.Get("X-Seen"), "<nil>") {
			t.Errorf("%s: %d bytes, %v, seen %q, want %d", name, len(got), err, resp.Header.Get("X-Seen"), len(c.body))
		}
	}
	if got := n.accepted.Load(); got != 1 {
		t.Errorf("%d connections for calls one after another, want 1", got)
	}
}

// endless is a body that never ends. Close ends a Read of one that waits.
type endless struct {
	waits  bool // after the first byte
	closed chan struct{}
	begun  bool
}

func (e *endless) Read(p []byte) (int, error) {
	if e.waits && e.begun {
		<-e.closed
		return 0, io.ErrClosedPipe
	}
	e.begun = true
	if e.waits {
		return 1, nil
	}
	return len(p), nil
}

func (e *endless) Close() error {
	select {
	case <-e.closed:
	default:
		close(e.closed)
	}
	return nil
}

// A node that has a blob, or has no room for it, says so at once, and may read no further.
func TestTransport_AnEarlyAnswerEndsTheSending(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	address := answersEarly(t, "HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull", over)
	for name, c := range map[string]struct {
		length int64
		waits  bool
	}{
		"known length, the node takes nothing":      {1 << 40, false},
		"unknown length, the node takes nothing":    {-1, false},
		"known length, the body has nothing more":   {1 << 40, true},
		"unknown length, the body has nothing more": {-1, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTransport(t, Options{})
			resp, err := stream(t, tr, "http://"+address, c.length, &endless{waits: c.waits, closed: make(chan struct{})})
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(resp.Body); resp.StatusCode != 507 || string(answer) != "full" || err != nil {
				t.Errorf("%s %q, %v", resp.Status, answer, err)
			}
			tr.mu.Lock()
			defer tr.mu.Unlock()
			if len(tr.idle) != 0 {
				t.Error("a connection with half a request on it is kept")
			}
		})
	}
}

// answersEarly is a node that answers after a request's first byte and then holds the
// connection open without reading, until the test is over.
func answersEarly(t *testing.T, says string, over <-chan struct{}) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the test
				defer c.Close()
				if _, err := c.Read(make([]byte, 1)); err == nil {
					io.WriteString(c, says)
				}
				<-over
			}()
		}
	}()
	return l.Addr().String()
}

// A part that looked like the whole would be kept by the node.
func TestTransport_ABodyThatBreaksOffIsNoWholeOne(t *testing.T) {
	seen := make(chan error, 1)
	n := newNode(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		seen <- err
	})
	tr := newTransport(t, Options{})
	broken := errors.New("broken")
	for name, length := range map[string]int64{"unknown length": -1, "known length": 2 << 20} {
		body := io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), iotest.ErrReader(broken))
		if _, err := stream(t, tr, n.URL, length, io.NopCloser(body)); !errors.Is(err, broken) {
			t.Errorf("%s: error %v, want that of the body", name, err)
		}
		if err := <-seen; err == nil {
			t.Errorf("%s: the node has taken a part for the whole", name)
		}
	}
	if _, err := stream(t, tr, n.URL, 2<<20, io.NopCloser(bytes.NewReader(make([]byte, 1<<20)))); err == nil {
		t.Error("a body shorter than it said was sent")
	}
	if err := <-seen; err == nil {
		t.Error("the node has taken a body shorter than it said")
	}
}

func TestTransport_ANodeThatDiesEndsTheSending(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dying := make(chan struct{})
	go func() { // ends with the first connection
		defer close(dying)
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Read(make([]byte, 1))
		c.Close()
	}()
	tr := newTransport(t, Options{})
	if _, err := stream(t, tr, "http://"+l.Addr().String(), -1, &endless{waits: true, closed: make(chan struct{})}); err == nil {
		t.Error("a dead node answered")
	}
	l.Close()
	<-dying
}
