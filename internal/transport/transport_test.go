package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A node is a server, and how many connections it has accepted.
type node struct {
	*httptest.Server
	accepted atomic.Int32
}

func newNode(t testing.TB, h http.HandlerFunc) *node {
	n := &node{Server: httptest.NewUnstartedServer(h)}
	n.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.accepted.Add(1)
		}
	}
	n.Start()
	t.Cleanup(n.Close)
	return n
}

// newTransport makes one that leaves nothing open when the test ends.
func newTransport(t testing.TB, opts Options) *Transport {
	tr := New(opts)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func post(t testing.TB, tr http.RoundTripper, url, body string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(r)
}

// ask is post read to its end.
func ask(t testing.TB, tr http.RoundTripper, url, body string) (string, *http.Response) {
	t.Helper()
	resp, err := post(t, tr, url, body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer), resp
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Set("X-Seen", fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.ContentLength, " ", r.Header.Get("X-Thing"), " ", err))
	w.Write(body)
}

func TestTransport_ANodeSeesTheRequestAsItIs(t *testing.T) {
	n := newNode(t, echo)
	tr := newTransport(t, Options{})
	for name, body := range map[string]string{"small": "{}", "large": strings.Repeat("x", 1<<20)} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL+"/api/chat?a=b%20c", io.MultiReader(strings.NewReader(body[:1]), strings.NewReader(body[1:])))
		r.ContentLength = int64(len(body))
		r.Header.Set("X-Thing", "thing")
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		want := fmt.Sprintf("POST /api/chat?a=b%%20c %s %d thing <nil>", strings.TrimPrefix(n.URL, "http://"), len(body))
		if string(answer) != body || err != nil || resp.Header.Get("X-Seen") != want {
			t.Errorf("%s: %d bytes, %v, seen %q, want %q", name, len(answer), err, resp.Header.Get("X-Seen"), want)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r, _ := http.NewRequestWithContext(t.Context(), method, n.URL+"/", nil)
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	if got := n.accepted.Load(); got != 1 {
		t.Errorf("%d connections for calls one after another, want 1", got)
	}
}

func TestTransport_CallsAtOnceHaveConnectionsOfTheirOwn(t *testing.T) {
	n := newNode(t, echo)
	tr := newTransport(t, Options{})
	for range 3 { // the later rounds reuse
		var calls sync.WaitGroup
		for i := range 50 {
			calls.Go(func() { // ends with the answer
				want := strings.Repeat(fmt.Sprint(i), 3000)
				if got, _ := ask(t, tr, n.URL, want); got != want {
					t.Errorf("call %d got another's answer", i)
				}
			})
		}
		calls.Wait()
	}
	if got := n.accepted.Load(); got > 50 {
		t.Errorf("%d connections for 50 calls at once", got)
	}
}

func TestTransport_AClosedIdleConnectionIsNotUsed(t *testing.T) {
	n := newNode(t, echo)
	tr := newTransport(t, Options{})
	for range 3 {
		ask(t, tr, n.URL, "{}")
		n.CloseClientConnections() // waits for nothing, so the end may still be on its way
		awaitClosed(t, tr)
	}
	if got := n.accepted.Load(); got != 3 {
		t.Errorf("%d connections, want 3", got)
	}
}

// awaitClosed waits until the end of the idle connections has arrived here.
func awaitClosed(t *testing.T, tr *Transport) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, c := range tr.idle {
		_ = c.net.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.r.Peek(1); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the node does not close: %v", err)
		}
	}
}

func TestTransport_FramesArriveAsTheyAreFlushed(t *testing.T) {
	next := make(chan struct{})
	n := newNode(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintln(w, i)
			http.NewResponseController(w).Flush()
			<-next
		}
	})
	tr := newTransport(t, Options{})
	resp, err := post(t, tr, n.URL, "{}")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprint(i) {
			t.Errorf("line %q, want %d", lines.Text(), i)
		}
		next <- struct{}{}
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("%q, %v after the end", lines.Text(), lines.Err())
	}
	resp.Body.Close()
}

func TestTransport_LeavingEndsTheCallAtTheNode(t *testing.T) {
	left := make(chan struct{}, 1)
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/silent" {
			fmt.Fprintln(w, "begun")
			http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		left <- struct{}{}
	})
	tr := newTransport(t, Options{})
	t.Run("by closing the body", func(t *testing.T) {
		resp, err := post(t, tr, n.URL, "{}")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		<-left
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
			t.Error("a closed body can be read")
		}
	})
	for _, path := range []string{"/", "/silent"} {
		t.Run("by the context, "+path, func(t *testing.T) {
			gone := errors.New("gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
			defer stop.Stop()
			r, _ := http.NewRequestWithContext(ctx, http.MethodPost, n.URL+path, strings.NewReader("{}"))
			resp, err := tr.RoundTrip(r)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			} else if !errors.Is(err, gone) {
				t.Errorf("error %v does not tell the cause", err)
			}
			if err == nil {
				t.Error("the call ended in order")
			}
			<-left
		})
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.idle) != 0 {
		t.Errorf("%d connections of calls that were left are kept", len(tr.idle))
	}
}

func TestTransport_FaultsOfANodeAreErrors(t *testing.T) {
	for name, c := range map[string]struct{ says, want string }{
		"nothing":            {"", "EOF"},
		"half a head":        {"HTTP/1.1 200 OK\r\nContent-", "malformed MIME header"},
		"no HTTP":            {"SSH-2.0-OpenSSH\r\n\r\n", "malformed HTTP"},
		"endless headers":    {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", headerLimit+1), "too long"},
		"endless 1xx":        {strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", informLimit), "1xx"},
		"another protocol":   {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "switched"},
		"a bad length":       {"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!", "Content-Length"},
		"cut body":           {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "unexpected EOF"},
		"cut chunk":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "unexpected EOF"},
		"no last chunk":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "unexpected EOF"},
		"a 1xx, then a word": {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ""},
		"until it closes":    {"HTTP/1.0 200 OK\r\n\r\nhello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			address := rawNode(t, c.says)
			tr := newTransport(t, Options{})
			resp, err := post(t, tr, "http://"+address, "{}")
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				if c.want == "" && string(body) != "hello" {
					t.Errorf("body %q", body)
				}
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// rawNode takes one request on each connection, says the same and closes.
func rawNode(t *testing.T, says string) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			if q, err := http.ReadRequest(r); err == nil {
				io.Copy(io.Discard, q.Body)
			}
			io.WriteString(c, says)
			c.Close()
		}
	})
	return l.Addr().String()
}

func TestTransport_AnEarlyAnswerIsHeard(t *testing.T) {
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) { // as a node that has closed its reading side
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		rw.WriteString("HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		rw.Flush()
		io.CopyN(io.Discard, c, 64<<20)
		c.Close()
	})
	tr := newTransport(t, Options{})
	body := bytes.Repeat([]byte("x"), 64<<20-1)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL, bytes.NewReader(body))
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(answer) != "big" {
		t.Errorf("%s %q", resp.Status, answer)
	}
}

func TestTransport_TellsWhenThereIsAConnection(t *testing.T) {
	n := newNode(t, echo)
	tr := newTransport(t, Options{})
	var seen []bool
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { seen = append(seen, i.Reused) }}
	for range 2 {
		r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, n.URL, nil)
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	n.Close()
	refused := newTransport(t, Options{})
	r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, n.URL, nil)
	if _, err := refused.RoundTrip(r); err == nil {
		t.Error("a closed node answered")
	}
	if fmt.Sprint(seen) != "[false true]" {
		t.Errorf("connections seen, reused or not: %v", seen)
	}
}

func TestTransport_KeepsNoMoreThanItMay(t *testing.T) {
	n := newNode(t, echo)
	tr := newTransport(t, Options{MaxIdle: 2, IdleTimeout: 50 * time.Millisecond})
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() { ask(t, tr, n.URL, "{}") }) // ends with the answer
	}
	calls.Wait()
	count := func() int {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.idle)
	}
	if got := count(); got > 2 {
		t.Errorf("%d idle connections, want at most 2", got)
	}
	for end := time.Now().Add(5 * time.Second); count() > 0; {
		if time.Now().After(end) {
			t.Fatal("idle connections are never closed")
		}
		time.Sleep(10 * time.Millisecond) // real connections know no virtual time
	}
}

func TestTransport_ToldToCloseItKeepsNothingOfOldCalls(t *testing.T) {
	n := newNode(t, echo)
	tr := newTransport(t, Options{})
	resp, err := post(t, tr, n.URL, strings.Repeat("x", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	tr.CloseIdleConnections()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.idle) != 0 {
		t.Error("the connection is kept")
	}
}

func TestTransport_OverTLSANodeMustBeTrusted(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	tr := newTransport(t, Options{TLS: &tls.Config{RootCAs: roots}})
	for range 2 {
		if got, resp := ask(t, tr, server.URL, "hello"); got != "hello" || resp.StatusCode != 200 {
			t.Errorf("%s %q", resp.Status, got)
		}
	}
	var untrusted *tls.CertificateVerificationError
	if _, err := post(t, newTransport(t, Options{}), server.URL, "{}"); !errors.As(err, &untrusted) {
		t.Errorf("error %v of an unknown authority", err)
	}
	if _, err := post(t, newTransport(t, Options{TLS: &tls.Config{RootCAs: roots, ServerName: "elsewhere"}}), server.URL, "{}"); err == nil {
		t.Error("a certificate for another name was taken")
	}
	plain := newNode(t, echo)
	var record tls.RecordHeaderError
	if _, err := post(t, newTransport(t, Options{}), strings.Replace(plain.URL, "http:", "https:", 1), "{}"); !errors.As(err, &record) {
		t.Errorf("error %v of a node without TLS", err)
	}
}

func TestTransport_BodiesNeedALength(t *testing.T) {
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost", io.MultiReader(strings.NewReader("x")))
	if _, err := newTransport(t, Options{}).RoundTrip(r); err == nil {
		t.Error("a body was sent whose length is said to be none")
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	n := newNode(b, echo)
	body := `{"model":"tiny","messages":[{"role":"user","content":"hello"}]}`
	plain := &http.Transport{MaxIdleConnsPerHost: 512}
	defer plain.CloseIdleConnections()
	for name, tr := range map[string]http.RoundTripper{"ours": newTransport(b, Options{MaxIdle: 512}), "net-http": plain} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ask(b, tr, n.URL, body)
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ask(b, tr, n.URL, body)
				}
			})
		})
	}
}
