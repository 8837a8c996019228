package caddymodule

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// 39
func TestMatrix_ASlowClientCostsOnlyItself(t *testing.T) {
	const limit = time.Second
	f := newMatrixFront(t, matrixSetup{server: "timeouts {\nread_header 1s\n}", app: "limits {\nbody_timeout 1s\n}", slots: 8})
	const head = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(matrixChat), matrixChat)
	kinds := []struct {
		name, first string
		drip        string // a byte each 50 ms, again and again; "": silence
		status      int    // 0: the connection is closed
	}{
		{"headers that stop", head, "", 0},
		{"headers that trickle", head + "X-Slow: ", "a", 0},
		{"a body that stops", head + "Content-Length: 100\r\n\r\n{", "", http.StatusRequestTimeout},
		{"a body that trickles", head + "Content-Length: 100000\r\n\r\n{", " ", http.StatusRequestTimeout},
		{"chunks that stop", head + "Transfer-Encoding: chunked\r\n\r\n" + chunk, "", http.StatusRequestTimeout},
		{"chunks that trickle", head + "Transfer-Encoding: chunked\r\n\r\n" + chunk, "1\r\n \r\n", http.StatusRequestTimeout},
	}
	const each = 10
	before := f.outcomes()
	var slow sync.WaitGroup
	for _, kind := range kinds {
		for range each {
			conn, r := f.raw(kind.first)
			began := time.Now()
			if kind.drip != "" {
				go drip(conn, kind.drip) // ends with the connection
			}
			slow.Go(func() { // ends with the connection
				defer conn.Close()
				a := answerTo(r, http.MethodPost)
				took := time.Since(began)
				if a.status != kind.status || took < limit-100*time.Millisecond || took > limit+2*time.Second {
					t.Errorf("%s: %d %s after %v, want %d after %v", kind.name, a.status, a.body, took, kind.status, limit)
				}
				if a.status != 0 && (!a.closes || !strings.HasPrefix(a.body, `{"error":"`)) {
					t.Errorf("%s: closes %t, %s; want an error of the dialect and the end of the connection", kind.name, a.closes, a.body)
				}
				if _, err := r.ReadByte(); err == nil {
					t.Errorf("%s: the connection goes on", kind.name)
				}
			})
		}
	}

	// The others are answered meanwhile as if there were no slow ones.
	gone := make(chan struct{})
	go func() { slow.Wait(); close(gone) }() // ends with the last slow one
	c := tcpClient(t)
	served, longest := 0, time.Duration(0)
	for over := false; !over; {
		select {
		case <-gone:
			over = true
		default:
		}
		began := time.Now()
		resp := post(t, c, "http://"+f.address+"/api/chat", matrixChat)
		frames(t, resp.Body)
		resp.Body.Close()
		served, longest = served+1, max(longest, time.Since(began))
	}
	if served < 20 || longest > limit/2 {
		t.Errorf("%d others were answered, the slowest after %v", served, longest)
	}
	if seen, _ := f.node.asked(); len(seen) != served {
		t.Errorf("the node had %d requests of %d that were whole", len(seen), served)
	}
	if !f.usable() {
		t.Error("slow clients were taken for a fault of the node")
	}
	now := f.outcomes()
	for outcome, want := range map[string]int{"ok": served, "client_error": 4 * each} {
		if got := now[outcome] - before[outcome]; got != want {
			t.Errorf("%d requests were %s, want %d", got, outcome, want)
		}
	}
	f.settled()
}

// drip writes text again and again until nobody takes it.
func drip(conn net.Conn, text string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// 38
func TestMatrix_AReaderThatStopsIsCutByTheServer(t *testing.T) {
	left := make(chan struct{})
	f := newMatrixFront(t, matrixSetup{
		server: "timeouts {\nwrite_idle 1s\n}",
		node: func(w http.ResponseWriter, r *http.Request) { // speaks without end
			record := `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"` + strings.Repeat("x", 4<<10) + `"},"done":false}` + "\n"
			w.Header().Set("Content-Type", "application/x-ndjson")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, record); err != nil {
					break
				}
			}
			close(left)
		},
	})
	before := f.outcomes()
	conn, r := f.raw(fmt.Sprintf("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(matrixChat), matrixChat))
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Fatal("the node still speaks to a client that does not read")
	}
	eventually(t, "its request has ended", func() bool { return f.outcomes()["client_canceled"] == before["client_canceled"]+1 })
	if !f.usable() {
		t.Error("the client was taken for a fault of the node")
	}
	f.settled()
}
