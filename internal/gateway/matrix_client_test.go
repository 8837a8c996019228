package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// raw sends bytes on a connection of their own and gives the status of the first answer; 0:
// none.
func (s *stand) raw(text string) int {
	s.Helper()
	conn, err := s.front.Dial(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	go io.WriteString(conn, text) // ends with the connection
	answers := bufio.NewReader(conn)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	io.Copy(io.Discard, answers) // what else it takes for a request, it has answered then
	return resp.StatusCode
}

// 38
func TestMatrix_AReaderThatStopsHoldsNoSlot(t *testing.T) {
	onStand(t, one, func(s *stand) {
		resp, err := s.post(s.Context(), "/api/chat", forms[0].body)
		if err != nil {
			s.Fatal(err)
		}
		defer resp.Body.Close()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, v := range s.engine.fleet.Snapshot().Nodes {
			if n := s.engine.queue.InFlight(v.Node); n != 0 {
				s.Errorf("%d slots of the node are held by a client that does not read", n)
			}
		}
		if n := s.calls(3, 0); n != 0 {
			s.Errorf("%d of 3 other calls failed", n)
		}
		// Its connection is cut by the server, whose write limit this stand does not have.
	})
}

// 42
func TestMatrix_MonstrousJSONCostsBoundedMemory(t *testing.T) {
	const size = 2 << 20
	for name, c := range map[string]struct {
		body string
		code int
	}{
		"deep arrays":      {`{"model":"tiny","messages":` + strings.Repeat("[", size), 400},
		"deep objects":     {`{"model":"tiny","messages":` + strings.Repeat(`{"a":`, size/5), 400},
		"deep and whole":   {`{"model":"tiny","x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, 400},
		"many tiny arrays": {`{"model":"tiny","messages":[` + strings.Repeat("[],", size/3) + `[]]}`, 400},
		"a huge number":    {`{"model":"tiny","messages":[],"options":{"temperature":1` + strings.Repeat("0", size) + `}}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, one, func(s *stand) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				code, answer, _ := s.rig.ask("/api/chat", c.body)
				runtime.ReadMemStats(&after)
				if code != c.code || !strings.HasPrefix(answer, `{"error":"`) || len(answer) > 10_000 {
					s.Errorf("got %d %.200s, want %d", code, answer, c.code)
				}
				if grown := after.TotalAlloc - before.TotalAlloc; grown > 16*size {
					s.Errorf("%d MiB were allocated for %d", grown>>20, size>>20)
				}
				if n := s.served(0); n != 0 {
					s.Errorf("the node had %d requests", n)
				}
			})
		})
	}
}

// 43, 44, 45
func TestMatrix_WhatIsWrongIsSaidInANodesWords(t *testing.T) {
	const messages = `"messages":[{"role":"user","content":"` + canary + `"}],"options":{"temperature":0}`
	for name, c := range map[string]struct {
		body string
		code int
		ours string // what is said otherwise than by a node, on purpose; "": nothing
	}{
		"no JSON":                   {`{`, 400, ""},
		"a list":                    {`[]`, 400, ""},
		"nothing":                   {``, 400, ""},
		"a mark before":             {"\ufeff{\"model\":\"tiny\"," + messages + "}", 400, ""},
		"data behind":               {`{"model":"tiny",` + messages + `} x`, 400, `{"error":"`},
		"a field twice":             {`{"model":"tiny","model":"tiny2",` + messages + `}`, 400, `{"error":"`},
		"two spellings":             {`{"model":"tiny","MODEL":"tiny2",` + messages + `}`, 400, `{"error":"`},
		"one spelling":              {`{"MODEL":"tiny","stream":false,` + messages + `}`, 200, "{"},
		"a lone surrogate":          {`{"model":"tiny","stream":false,"messages":[{"role":"user","content":"\ud800"}]}`, 200, "{"},
		"broken UTF-8":              {"{\"model\":\"tiny\",\"stream\":false,\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", 200, "{"},
		"NUL in a name":             {`{"model":"ti\u0000ny",` + messages + `}`, 400, `{"error":"`},
		"stream is text":            {`{"model":"tiny","stream":"yes",` + messages + `}`, 400, ""},
		"messages is an object":     {`{"model":"tiny","messages":{}}`, 400, ""},
		"a message is text":         {`{"model":"tiny","messages":["x"]}`, 400, ""},
		"the model is a number":     {`{"model":5,` + messages + `}`, 400, ""},
		"options is a list":         {`{"model":"tiny","messages":[],"options":[]}`, 400, ""},
		"keep_alive is an object":   {`{"model":"tiny","messages":[],"keep_alive":{}}`, 400, ""},
		"a number ends in a letter": {`{"model":"tiny","messages":[],"top_logprobs":1x}`, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, one, func(s *stand) {
				before := s.served(0)
				code, answer, _ := s.rig.ask("/api/chat", c.body)
				if n := s.served(0) - before; code >= 400 && n != 0 {
					s.Errorf("the node had %d requests", n)
				}
				want := c.ours
				if want == "" {
					_, want = s.direct(0, "/api/chat", c.body)
				}
				if code != c.code || !strings.HasPrefix(answer, want) {
					s.Errorf("got %d %.300s\nwant %d %.300s", code, answer, c.code, want)
				}
			})
		})
	}
}

// 49
func TestMatrix_ACompressedBombIsRefused(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	bomb := encoder.EncodeAll([]byte(`{"model":"tiny","messages":[{"role":"user","content":"`+strings.Repeat("a", 30<<20)+`"}]}`), nil)
	for _, c := range []struct{ path, encoding string }{
		{"/v1/chat/completions", "zstd"}, {"/v1/messages", "zstd"}, {"/api/chat", "zstd"}, {"/api/chat", "gzip"}, {"/v1/messages", "gzip"},
	} {
		t.Run(c.path+" "+c.encoding, func(t *testing.T) {
			onStand(t, one, func(s *stand) {
				before := s.served(0)
				code := s.raw(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", c.path, c.encoding, len(bomb), bomb))
				if code != 400 || s.served(0) != before {
					s.Errorf("status %d, the node had %d requests", code, s.served(0)-before)
				}
			})
		})
	}
}

// 47, 48
func TestMatrix_OneRequestInIsAtMostOneAtTheNode(t *testing.T) {
	body := forms[1].body
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	inner := "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body
	for name, c := range map[string]struct {
		headers, body string
		refused       bool
	}{
		"both lengths":         {"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", chunked + inner, false},
		"two lengths":          {"Content-Length: 4\r\nContent-Length: 5\r\n", inner, true},
		"a signed length":      {"Content-Length: +4\r\n", inner, true},
		"a list of lengths":    {"Content-Length: 4, 4\r\n", inner, true},
		"an unknown encoding":  {"Transfer-Encoding: xchunked\r\n", chunked + inner, true},
		"the encoding twice":   {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked + inner, true},
		"a space in the name":  {"Transfer-Encoding : chunked\r\n", chunked + inner, true},
		"a bad size of chunk":  {"Transfer-Encoding: chunked\r\n", "zz\r\n" + inner, true},
		"a negative chunk":     {"Transfer-Encoding: chunked\r\n", "-1\r\n" + inner, true},
		"a chunk without end":  {"Transfer-Encoding: chunked\r\n", "5\r\nabcdefgh\r\n0\r\n\r\n" + inner, true},
		"a header with NUL":    {"X: a\x00b\r\nContent-Length: 4\r\n", inner, true},
		"two hosts":            {"Host: other\r\nContent-Length: 4\r\n", inner, true},
		"connection over auth": {"Connection: Authorization\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n", body, false},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, one, func(s *stand) {
				before := s.served(0)
				code := s.raw("POST /api/chat HTTP/1.1\r\nHost: localhost\r\n" + c.headers + "\r\n" + c.body)
				if c.refused != (code >= 400) {
					s.Errorf("status %d", code)
				}
				most := 1
				if c.refused {
					most = 0
				}
				if n := s.served(0) - before; n > most {
					s.Errorf("the node had %d requests, want at most %d", n, most)
				}
			})
		})
	}
}

// 51
func TestMatrix_NoSpellingOfAPathReachesARouteThatIsClosed(t *testing.T) {
	for _, path := range []string{
		"/api/pull", "/api/pull/", "//api/pull", "/api//pull", "/API/PULL", "/api/Pull", "/api/%70ull", "/api%2fpull", "/api/./pull",
		"/api/x/../pull", "/v1/../api/pull", "/api/chat/../pull", "/api/chat/..%2fpull", "/api/pull%00", "/api/pull;x", "/api/pull?x=/api/chat",
		"/../api/pull", "/.//api/pull", `/api\pull`, "/api/tags/../delete", "http://localhost/api/pull",
	} {
		t.Run(path, func(t *testing.T) {
			onStand(t, one, func(s *stand) {
				code := s.raw("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18\r\n\r\n" + `{"model":"canary"}`)
				if code < 300 || code >= 500 {
					s.Errorf("status %d", code)
				}
				for asked := range s.sim[0].Stats().Requests {
					if strings.Contains(strings.ToLower(asked), "pull") || strings.Contains(asked, "delete") {
						s.Errorf("the node was asked %s", asked)
					}
				}
			})
		})
	}
}
