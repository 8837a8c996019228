package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// answering is a client of somebody who gives this answer to whatever is asked, and leaves.
func answering(t *testing.T, answer string) *client {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the connection, or with the listener
		far, err := ln.Accept()
		if err != nil {
			return
		}
		defer far.Close()
		if _, err := far.Read(make([]byte, 64<<10)); err == nil {
			_, _ = io.WriteString(far, answer)
		}
	}()
	c := &client{ctx: t.Context(), addr: ln.Addr().String()}
	t.Cleanup(func() { c.close(); ln.Close() })
	return c
}

func TestQuestion_EndsAsItsAnswerDoes(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := func(record string) string {
		return fmt.Sprintf("%x\r\n%s\n\r\n", len(record)+1, record)
	}
	const end = "0\r\n\r\n"
	text, last, broken := chunk(`{"done":false}`), chunk(`{"done":true}`), chunk(`{"error":"sorry"}`)
	for _, c := range []struct {
		name, answer string
		want         ending
	}{
		{"complete", head + text + text + last + end, answered},
		{"refused", "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}", refused},
		{"closed at once", "", refused},
		{"an error record first", head + broken + end, refused},
		{"an error record later", head + text + broken + end, told},
		{"cut", head + text, cut},
		{"ended in order, without the final record", head + text + text + end, cut},
		{"too few tokens", head + text + last + end, cut},
		{"without its end", head + text + text + last, cut},
	} {
		first, end, err := answering(t, c.answer).askQuestion(question{tokens: 2, nonce: 1})
		if end != c.want || (err == nil) != (c.want == answered) || (first == 0) != (c.want == refused) {
			t.Errorf("%s: %v after %v, %v; want %v", c.name, end, first, err, c.want)
		}
	}
}

func TestJudge_ExcusesOnlyStreamsOnTheKilledNode(t *testing.T) {
	const s = time.Second
	some := errors.New("some")
	ran := arrival{at: 2900 * time.Millisecond, took: 200 * time.Millisecond, end: told, err: some}
	for _, c := range []struct {
		name   string
		faults []string
		all    []arrival
		want   int
	}{
		{"ran when it was killed", nil, []arrival{ran, ran, ran, ran}, 0},
		{"more than it has slots", nil, []arrival{ran, ran, ran, ran, ran}, 1},
		{"the node was not killed", []string{"status=500"}, []arrival{ran}, 1},
		{"nothing had come", nil, []arrival{{at: ran.at, took: ran.took, end: refused, err: some}}, 1},
		{"asked while it was killed", nil, []arrival{{at: 3005 * time.Millisecond, took: s, end: told, err: some}}, 0},
		{"asked later", nil, []arrival{{at: 4 * s, took: s, end: told, err: some}}, 1},
		{"ended before", nil, []arrival{{at: s, took: s, end: cut, err: some}}, 1},
	} {
		d := drill{faults: c.faults, lead: 3 * s, lasts: 5 * s}
		got := d.judge(c.all, 3010*time.Millisecond)
		if got.inexcusable != c.want || got.failed() != len(c.all) || (got.fault == nil) != (c.want == 0) {
			t.Errorf("%s: %d of %d, first %v; want %d", c.name, got.inexcusable, got.failed(), got.fault, c.want)
		}
	}
}

func TestJudge_TimesAreOfWhatWasAskedDuringTheFault(t *testing.T) {
	const s = time.Second
	d := drill{faults: []string{"slow=20"}, lead: 3 * s, lasts: 5 * s}
	got := d.judge([]arrival{
		{at: 0, first: 1},
		{at: 3*s - 1, first: 1},
		{at: 3 * s, first: 5},
		{at: 8*s - 1, first: 4},
		{at: 8 * s, first: 9},
		{at: 4 * s, first: 7, end: cut},
	}, 3*s)
	if len(got.firsts) != 2 || got.firsts[0] != 4 || got.firsts[1] != 5 || got.usual != 1 || got.requests != 6 {
		t.Errorf("%v, usually %v, of %d requests", got.firsts, got.usual, got.requests)
	}
}

func TestDrillGoal_ALimitBelowIsNotReached(t *testing.T) {
	if g := (drillGoal{must: 2, below: true}); g.kept(2) || !g.kept(1.9) {
		t.Error("below 2: 2 is kept, or 1.9 is not")
	}
	if g := (drillGoal{must: 2}); !g.kept(2) || g.kept(2.1) {
		t.Error("at most 2: 2 is not kept, or 2.1 is")
	}
}

func TestChoose_TakesPartsOfNamesOfEveryKind(t *testing.T) {
	for parts, want := range map[string]string{
		"fault-hang,idle-streams": "fault-hang idle-streams",
		"error":                   "fault-error-500 fault-error-503",
		"rate-64":                 "rate-64",
	} {
		s := everything(settings{})
		if err := s.choose(parts); err != nil || strings.Join(s.names(), " ") != want {
			t.Errorf("%s: %q, %v; want %q", parts, s.names(), err, want)
		}
	}
	s := everything(settings{})
	if err := s.choose("nothing"); err == nil || !strings.Contains(err.Error(), "fault-slow") {
		t.Errorf("a name that nothing has: %v", err)
	}
}

func TestCrowd_FitsIntoTheFilesThatAreAllowed(t *testing.T) {
	c := crowd{connections: 10_000, streams: 2000}
	if got := c.within(c.files()); got != c {
		t.Errorf("%+v, want all", got)
	}
	got := c.within(c.files() / 2)
	if got.files() > c.files()/2 || got.connections < 4000 || got.streams < 800 {
		t.Errorf("%+v takes %d files of %d", got, got.files(), c.files()/2)
	}
}

func TestSilent_OnlyTheEndOfAChunkIsNoWord(t *testing.T) {
	for said, want := range map[string]bool{"\r\n": true, "\r\n0\r\n\r\n": false, "x": false} {
		near, far := net.Pipe()
		c := &client{conn: near, r: bufio.NewReader(near)}
		go func() { _, _ = io.WriteString(far, said) }() // ends with the connection
		if _, err := c.r.Peek(len(said)); err != nil {
			t.Fatal(err)
		}
		if got := c.silent(); got != want {
			t.Errorf("behind %q: %t, want %t", said, got, want)
		}
		far.Close()
		if c.silent() {
			t.Errorf("behind %q and the end: silent", said)
		}
		near.Close()
	}
}
