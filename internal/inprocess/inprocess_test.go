package inprocess

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds waits of the tests: they are for what does not happen.
const within = 20 * time.Second

// ask gives the answer of a handler, and closes it with the test.
func ask(t *testing.T, h http.HandlerFunc, method, target, body string) *http.Response {
	t.Helper()
	resp, err := try(t, t.Context(), h, method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func try(t *testing.T, ctx context.Context, h http.HandlerFunc, method, target, body string) (*http.Response, error) {
	t.Helper()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, target, b)
	if err != nil {
		t.Fatal(err)
	}
	return New(h, nil).RoundTrip(r)
}

func mustRead(t *testing.T, r io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %q: %v", text, err)
	}
	return string(text)
}

// Whatever a handler does, its answer is what a server on a socket would have sent.
func TestRoundTrip_AnswersAsAServerWould(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"nothing":        func(http.ResponseWriter, *http.Request) {},
		"a status alone": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"a body alone":   func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello") },
		"a type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "x/y")
			io.WriteString(w, "<html>")
		},
		"no type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "hello")
		},
		"a second status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "x/y")
			w.WriteHeader(201)
			w.WriteHeader(500)
			io.WriteString(w, "x")
		},
		"a late header": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x"); w.Header().Set("X-Late", "x") },
		"flushed first": func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.WriteHeader(500)
			io.WriteString(w, "x")
		},
		"a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		},
		"an early hint": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusEarlyHints); w.WriteHeader(404) },
		"no content":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); fmt.Fprint(w, "x") },
		"many values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-A"] = []string{"1", "2"}
			w.WriteHeader(200)
		},
		"what it was asked": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintln(w, r.Method, r.URL, r.RequestURI, r.Proto, r.ContentLength, r.URL.Host, r.URL.Scheme, r.Header.Get("X-Q"), string(body))
		},
		"a large body": func(w http.ResponseWriter, _ *http.Request) {
			for range 50 {
				w.Write(bytes.Repeat([]byte("0123456789"), 1000))
			}
		},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			t.Run(name+"/"+method, func(t *testing.T) {
				server := httptest.NewServer(h)
				defer server.Close()
				show := func(transport http.RoundTripper) string {
					var body io.Reader
					if method == http.MethodPost {
						body = strings.NewReader("question")
					}
					r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/a%2Fb/c?d=e%20f", body)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("X-Q", "q")
					resp, err := transport.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					text := mustRead(t, resp.Body)
					resp.Header.Del("Date")
					resp.Header.Del("Content-Length") // a server adds it to what is short
					return fmt.Sprint(resp.Status, resp.Header, text)
				}
				socket := &http.Transport{DisableCompression: true}
				defer socket.CloseIdleConnections()
				if got, want := show(New(h, nil)), show(socket); got != want {
					t.Errorf("got\n%.300s\nwant\n%.300s", got, want)
				}
			})
		}
	}
}

func TestRoundTrip_PiecesAreReadBeforeTheEnd(t *testing.T) {
	next := make(chan string, 1)
	next <- "first"
	resp := ask(t, func(w http.ResponseWriter, _ *http.Request) {
		for piece := range next {
			io.WriteString(w, piece)
		}
	}, http.MethodGet, "http://x/", "")
	for _, piece := range []string{"first", "second", "third"} {
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != piece {
			t.Fatalf("got %q, %v, want %q", got, err, piece)
		}
		if piece != "third" {
			next <- map[string]string{"first": "second", "second": "third"}[piece]
		}
	}
	close(next)
	if rest := mustRead(t, resp.Body); rest != "" {
		t.Errorf("%q comes after the end", rest)
	}
}

func TestRoundTrip_WhatWaitsIsBounded(t *testing.T) {
	written := make(chan int, 1000)
	resp := ask(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			n, err := w.Write(make([]byte, pending/4))
			if err != nil {
				return
			}
			written <- n
		}
	}, http.MethodGet, "http://x/", "")
	for range 4 {
		<-written
	}
	// The fifth write cannot end before something is read.
	select {
	case <-written:
		t.Fatal("more is written than may wait")
	case <-time.After(50 * time.Millisecond):
	}
	if n := len(mustRead(t, resp.Body)); n != 100*pending/4 {
		t.Errorf("%d bytes came, want %d", n, 100*pending/4)
	}
}

func TestClose_EndsTheHandler(t *testing.T) {
	failed := make(chan error, 1)
	ended := false
	resp := ask(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				<-r.Context().Done()
				failed <- err
				ended = true
				return
			}
		}
	}, http.MethodGet, "http://x/", "")
	resp.Body.Close()
	if !ended {
		t.Error("Close has not waited for the handler")
	}
	if err := <-failed; err == nil {
		t.Error("the handler could write to nobody")
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("reading a closed body: %v", err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestRoundTrip_TheContextEndsIt(t *testing.T) {
	t.Run("before the header", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := try(t, ctx, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}, http.MethodGet, "http://x/", "")
		if resp != nil {
			resp.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("in the body", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := try(t, ctx, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			<-r.Context().Done()
		}, http.MethodGet, "http://x/", "")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("an answer that was cut short ends as if it were whole")
		}
	})
}

func TestRoundTrip_APanicIsTheAnswersOnly(t *testing.T) {
	for name, test := range map[string]struct {
		value  any
		logged bool
	}{
		"abort": {http.ErrAbortHandler, false},
		"other": {"canary", true},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " after the first byte ", late), func(t *testing.T) {
				var log bytes.Buffer
				h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if late {
						io.WriteString(w, "x")
					}
					panic(test.value)
				})
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := New(h, slog.New(slog.NewTextHandler(&log, nil))).RoundTrip(r)
				if late && err == nil {
					var text []byte
					text, err = io.ReadAll(resp.Body)
					if string(text) != "x" {
						t.Errorf("read %q before the end", text)
					}
					resp.Body.Close()
				}
				if !errors.Is(err, ErrAborted) {
					t.Errorf("got %v, want %v", err, ErrAborted)
				}
				if strings.Contains(log.String(), "canary") || (log.Len() > 0) != test.logged {
					t.Errorf("logged: %s", log.String())
				}
			})
		}
	}
}

func TestRoundTrip_ALengthIsKept(t *testing.T) {
	var tooMuch error
	resp := ask(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		io.WriteString(w, "ab")
		_, tooMuch = io.WriteString(w, "cd")
	}, http.MethodGet, "http://x/", "")
	if resp.ContentLength != 3 {
		t.Errorf("length: got %d, want 3", resp.ContentLength)
	}
	if text, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(text) != "ab" {
		t.Errorf("got %q, %v, want the part and an error", text, err)
	}
	resp.Body.Close()
	if !errors.Is(tooMuch, http.ErrContentLength) {
		t.Errorf("writing more than was announced: %v", tooMuch)
	}
}

// A server's request is not changed by what its sender does, nor the sender's by the handler.
func TestRoundTrip_RequestsAreApart(t *testing.T) {
	body := &closing{Reader: strings.NewReader("question")}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://host.example/path?q=1", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-A", "sent")
	resp, err := New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-A", "changed")
		r.URL.Path = "/changed"
		io.WriteString(w, r.Host)
	}), nil).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if host := mustRead(t, resp.Body); host != "host.example" {
		t.Errorf("the handler saw the host %q", host)
	}
	resp.Body.Close()
	if r.Header.Get("X-A") != "sent" || r.URL.Path != "/path" {
		t.Errorf("the sender's request was changed: %v %v", r.URL, r.Header)
	}
	if !body.closed {
		t.Error("the body of the request was not closed")
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

func TestRoundTrip_AClientWithATimeoutIsServed(t *testing.T) {
	c := &http.Client{Transport: New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }), nil), Timeout: within}
	resp, err := c.Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := mustRead(t, resp.Body); got != "ok" {
		t.Errorf("got %q", got)
	}
}
