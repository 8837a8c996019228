package caddymodule

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// nodeSays answers inference with bytes as they stand.
func nodeSays(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // else closing may reset the connection before the answer is read
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(buffered, text)
		buffered.Flush()
	}
}

// 52, what a node says
func TestMatrix_RareHTTPOfANodeIsUnderstoodOrItsFault(t *testing.T) {
	const (
		record = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"x"},"done":true,"done_reason":"stop"}` + "\n"
		// It says that it closes: who asks while it does would have a lost connection, with no other node to ask.
		head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n"
	)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(record), record)
	whole := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(record), record)
	for _, c := range []struct {
		name, says string
		status     int
	}{
		{"100 before the answer", "HTTP/1.1 100 Continue\r\n\r\n" + whole, 200},
		{"102 and 103 before the answer", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Early: x\r\n\r\n" + whole, 200},
		{"100 without an end", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000), 502},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + record, 502},
		{"trailers", head + "Trailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + "X-Checksum: 1\r\n\r\n", 200},
		{"trailers that were not announced", head + "Transfer-Encoding: chunked\r\n\r\n" + chunked + "X-Checksum: 1\r\nContent-Length: 1\r\n\r\n", 200},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 502},
		{"HTTP/1.0 to its end", "HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n" + record, 200},
		{"headers of its own", strings.Replace(whole, "\r\n", "\r\nSet-Cookie: a=b\r\nServer: node\r\nX-Powered-By: node\r\nAlt-Svc: x\r\n", 1), 200},
		{"no HTTP", "hello\r\n\r\n", 502},
		{"two lengths", head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + record, 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newMatrixFront(t, matrixSetup{node: nodeSays(c.says)})
			for _, stream := range []string{matrixChat, matrixWhole} {
				conn, r := f.raw(fmt.Sprintf("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(stream), stream))
				a := answerTo(r, http.MethodPost)
				if a.status != c.status || c.status == 200 && !strings.Contains(a.body, `"done":true`) || c.status != 200 && !strings.HasPrefix(a.body, `{"error":"`) {
					t.Errorf("got %d %s, want %d", a.status, a.body, c.status)
				}
				for name := range a.header {
					if !slices.Contains([]string{"Content-Type", "Content-Length", "Date", "X-Request-Id", "Retry-After", "Server-Timing"}, name) {
						t.Errorf("the client was sent %s: %s", name, a.header.Get(name))
					}
				}
				if len(a.interim) > 0 || len(a.trailer) > 0 {
					t.Errorf("the client was sent %v before and %v behind", a.interim, a.trailer)
				}
				// The connection is as good as new.
				fmt.Fprint(conn, "GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
				if a := answerTo(r, http.MethodGet); a.status != 200 || !strings.HasPrefix(a.body, `{"version":`) {
					t.Errorf("the next answer on the connection was %d %s", a.status, a.body)
				}
				conn.Close()
			}
			f.settled()
		})
	}
}

// 52, what a client says
func TestMatrix_RareHTTPOfAClientIsAnsweredAsByANodeOrRefused(t *testing.T) {
	f := newMatrixFront(t, matrixSetup{app: "limits {\nbody 1MiB\n}"})
	const localhost = " HTTP/1.1\r\nHost: localhost\r\n"
	post := fmt.Sprintf("POST /api/chat"+localhost+"Content-Length: %d\r\n", len(matrixWhole))
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(matrixWhole), matrixWhole)
	for _, c := range []struct {
		name, method, text string
		status             int
		asked              int // requests at the node
	}{
		{"HEAD of the root", "HEAD", "HEAD /" + localhost + "\r\n", 200, 0},
		{"HEAD of a list", "HEAD", "HEAD /api/tags" + localhost + "\r\n", 200, 0},
		{"HEAD of a call", "HEAD", "HEAD /api/chat" + localhost + "\r\n", 405, 0},
		{"OPTIONS", "OPTIONS", "OPTIONS /api/chat" + localhost + "\r\n", 204, 0},
		{"OPTIONS before a call from a page", "OPTIONS", "OPTIONS /api/chat" + localhost + "Origin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\n\r\n", 204, 0},
		{"OPTIONS from a foreign page", "OPTIONS", "OPTIONS /api/chat" + localhost + "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n", 403, 0},
		{"OPTIONS of everything", "OPTIONS", "OPTIONS *" + localhost + "\r\n", 200, 0}, // net/http answers it
		{"TRACE", "TRACE", "TRACE /api/chat" + localhost + "\r\n", 405, 0},
		{"CONNECT", "CONNECT", "CONNECT localhost:11434" + localhost + "\r\n", 404, 0},
		{"a method that there is not", "BREW", "BREW /api/chat" + localhost + "\r\n", 405, 0},
		{"another expectation", "POST", post + "Expect: a-miracle\r\n\r\n" + matrixWhole, 417, 0},
		{"an upgrade of a call", "POST", post + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + matrixWhole, 200, 1},
		{"an upgrade of a GET", "GET", "GET /api/tags" + localhost + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200, 0},
		{"an upgrade to h2c", "POST", post + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + matrixWhole, 200, 1},
		{"trailers", "POST", "POST /api/chat" + localhost + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + "X-Sum: 1\r\n\r\n", 200, 1},
		{"trailers that were not announced", "POST", "POST /api/chat" + localhost + "Transfer-Encoding: chunked\r\n\r\n" + chunked + "X-Sum: 1\r\n\r\n", 200, 1},
		{"TE", "POST", post + "TE: trailers, gzip\r\nConnection: TE\r\n\r\n" + matrixWhole, 200, 1},
		{"HTTP/1.0", "POST", strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1) + "\r\n" + matrixWhole, 200, 1},
		{"HTTP/0.9", "GET", "GET /api/tags\r\n", 400, 0},
		{"HTTP/3.0", "GET", "GET /api/tags HTTP/3.0\r\nHost: localhost\r\n\r\n", 505, 0},
		{"a range", "GET", "GET /api/tags" + localhost + "Range: bytes=0-1\r\n\r\n", 200, 0},
		{"a condition", "GET", "GET /api/tags" + localhost + "If-None-Match: *\r\n\r\n", 200, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := f.ask(c.method, c.text)
			if a.status != c.status || len(a.interim) > 0 || c.method == "HEAD" && a.body != "" {
				t.Errorf("got %v %d %q, want %d", a.interim, a.status, a.body, c.status)
			}
			seen, sent := f.node.asked()
			if len(seen) != c.asked {
				t.Fatalf("the node had %d requests, want %d", len(seen), c.asked)
			}
			for i, r := range seen {
				if r.Proto != "HTTP/1.1" || len(r.Trailer) > 0 || len(r.TransferEncoding) > 0 || !strings.Contains(sent[i], matrixCanary) {
					t.Errorf("the node was sent %s %v %v %s", r.Proto, r.Trailer, r.TransferEncoding, sent[i])
				}
				for _, name := range []string{"Upgrade", "Connection", "Te", "Expect", "Http2-Settings", "Range", "If-None-Match"} {
					if r.Header.Get(name) != "" {
						t.Errorf("the node was sent %s: %s", name, r.Header.Get(name))
					}
				}
				if !strings.Contains(a.body, `"done":true`) {
					t.Errorf("got %s", a.body)
				}
			}
			if path, ok := strings.CutPrefix(c.text, c.method+" /"); ok && (c.method == "HEAD" || c.method == "BREW" || c.method == "TRACE") {
				path, _, _ = strings.Cut(path, " ")
				if w := f.node.direct(c.method, "/"+path, nil, ""); w.Code != a.status {
					t.Errorf("got %d, a node says %d", a.status, w.Code)
				}
			}
		})
	}
	t.Run("100-continue", func(t *testing.T) { continues(t, f, post) })
	f.settled()
}

// continues asks before it sends a body.
func continues(t *testing.T, f *matrixFront, post string) {
	conn, r := f.raw(post + "Expect: 100-continue\r\n\r\n")
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("got %q %v, want 100", line, err)
	}
	if blank, err := r.ReadString('\n'); err != nil || blank != "\r\n" {
		t.Fatalf("got %q %v, want the end of the headers", blank, err)
	}
	sendAll(t, conn, matrixWhole)
	if a := answerTo(r, http.MethodPost); a.status != 200 || !strings.Contains(a.body, `"done":true`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	conn.Close()
	f.node.asked()
	late := 0
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"too large":      {"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2097152\r\n", 413},
		"a foreign host": {strings.Replace(post, "Host: localhost", "Host: evil.example", 1), 403},
		"no such route":  {strings.Replace(post, "/api/chat", "/api/nothing", 1), 404},
		"a closed route": {strings.Replace(post, "/api/chat", "/api/pull", 1), 403},
		"a wrong method": {strings.Replace(post, "POST", "PUT", 1), 405},
		"a foreign page": {post + "Origin: http://evil.example\r\n", 403},
	} {
		// Refused before it has sent anything: it is not asked to.
		conn, r := f.raw(c.text + "Expect: 100-continue\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		_, err := r.Peek(1)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if err != nil {
			late++
			r.Reset(conn) // or it would repeat the error
			sendAll(t, conn, matrixWhole)
		}
		if a := answerTo(r, http.MethodPost); a.status != c.status || len(a.interim) > 0 {
			t.Errorf("%s: got %v %d %s, want %d", name, a.interim, a.status, a.body, c.status)
		}
		conn.Close()
	}
	if is := isKnown(t); is != (late > 0) {
		t.Errorf("%d refusals waited for a body that was not asked for; known: %t", late, is)
	}
	if seen, _ := f.node.asked(); len(seen) > 0 {
		t.Errorf("the node had %d requests", len(seen))
	}
}

func sendAll(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}
