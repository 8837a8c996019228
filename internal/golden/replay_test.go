package golden

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answering is a dial to a server that reads the head of a request, writes raw bytes and hangs up.
func answering(t *testing.T, raw string, sent *string) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		done := make(chan struct{})
		t.Cleanup(func() { <-done })
		go func() { // ends when the connection does
			defer close(done)
			defer server.Close()
			r := bufio.NewReader(server)
			var head strings.Builder
			for {
				line, err := r.ReadString('\n')
				head.WriteString(line)
				if err != nil || line == "\r\n" {
					break
				}
			}
			if sent != nil {
				*sent = head.String()
			}
			_, _ = io.WriteString(server, raw)
		}()
		return client, nil
	}
}

func TestReplay_ReadsEveryFraming(t *testing.T) {
	for name, tt := range map[string]struct {
		method, raw   string
		framing, body string
		chunks        int
		truncated     bool
	}{
		"length":        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "content-length", "abc", 0, false},
		"short":         {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "content-length", "abc", 0, true},
		"chunks":        {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "chunked", "abc", 2, false},
		"chunks, cut":   {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "chunked", "ab", 1, true},
		"until the end": {"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", "close", "abc", 0, false},
		"head":          {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "none", "", 0, false},
		"no content":    {"GET", "HTTP/1.1 204 No Content\r\n\r\n", "none", "", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			rec := Record{Request: Request{Method: tt.method, Path: "/", Proto: "HTTP/1.1"}}
			got, err := Replay(t.Context(), answering(t, tt.raw, nil), rec)
			if err != nil {
				t.Fatal(err)
			}
			if got.Framing != tt.framing || string(got.Body) != tt.body || len(got.Chunks) != tt.chunks || got.Truncated != tt.truncated {
				t.Errorf("got framing %s, body %q, %d chunks, truncated %v; want %+v", got.Framing, got.Body, len(got.Chunks), got.Truncated, tt)
			}
			if !got.NoDate {
				t.Error("a Date was seen where there was none")
			}
		})
	}
}

func TestReplay_SendsTheBytesOfTheRecord(t *testing.T) {
	var sent string
	rec := Record{Request: Request{
		Method: http.MethodPost, Path: "/api/chat?x=1", Proto: "HTTP/1.0",
		Headers: [][2]string{{"host", "a b"}, {"X-Twice", "1"}, {"X-Twice", "2"}}, HasBody: true,
	}}
	got, err := Replay(t.Context(), answering(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nDate: x\r\nB: 1\r\nA: 2\r\nContent-Length: 0\r\n\r\n", &sent), rec)
	if err != nil {
		t.Fatal(err)
	}
	if want := "POST /api/chat?x=1 HTTP/1.0\r\nhost: a b\r\nX-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 0\r\n\r\n"; sent != want {
		t.Errorf("sent %q, want %q", sent, want)
	}
	if len(got.Interim) != 1 || got.NoDate || len(got.Headers) != 3 || got.Headers[0] != [2]string{"B", "1"} {
		t.Errorf("got %+v", got)
	}
}

func TestReplay_NoAnswerIsStatusZero(t *testing.T) {
	got, err := Replay(t.Context(), answering(t, "", nil), Record{Request: Request{Method: "GET", Path: "/", Proto: "HTTP/1.1"}})
	if err != nil || got.Status != 0 {
		t.Errorf("got status %d, error %v", got.Status, err)
	}
}

func TestReplay_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	silent := func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		t.Cleanup(func() { _ = server.Close() })
		return client, nil
	}
	_, err := Replay(ctx, silent, Record{Request: Request{Method: "GET", Path: "/", Proto: "HTTP/1.1"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v", err)
	}
}

func FuzzReadResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n")
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		_, _ = readResponse(bufio.NewReader(strings.NewReader(raw)), http.MethodGet)
	})
}
