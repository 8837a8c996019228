package main

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestPercentile_IsTheNearestRank(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		name   string
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		{"of nothing", nil, 0.5, 0},
		{"of one", []time.Duration{7}, 0.99, 7},
		{"median of two is the lower", []time.Duration{1, 2}, 0.5, 1},
		{"p50 of 100", hundred, 0.5, 50},
		{"p99 of 100", hundred, 0.99, 99},
		{"all", hundred, 1, 100},
		{"none", hundred, 0, 1},
	} {
		if got := percentile(c.values, c.q); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestMedian_LeavesOutWhatIsNoNumber(t *testing.T) {
	if got := median([]float64{3, math.NaN(), 1, math.Inf(1), 2}); got != 2 {
		t.Errorf("%g, want 2", got)
	}
	if got := median([]float64{4, 1}); got != 2.5 {
		t.Errorf("%g, want 2.5", got)
	}
	if got := median([]float64{math.NaN()}); !math.IsNaN(got) {
		t.Errorf("%g, want no number", got)
	}
}

func TestParseStat_NameMayHoldAnything(t *testing.T) {
	got, err := parseStat([]byte("42 (a) b (c) S 1 1 1 0 -1 4194560 9 0 0 0 150 25 0 0 20 0 9 0 100 1 1"))
	if want := 1750 * time.Millisecond; got != want || err != nil {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := parseStat([]byte("42 (a) S 1")); err == nil {
		t.Error("a short line: no error")
	}
	if got := parseStatus([]byte("VmPeak:\t 9 kB\nVmHWM:\t   1772 kB\nVmRSS:\t 8 kB\n"), "VmHWM:"); got != 1772<<10 {
		t.Errorf("VmHWM is %d bytes, want %d", got, 1772<<10)
	}
}

func TestParseBusy_LeavesOutWhatIsIdle(t *testing.T) {
	got, err := parseBusy([]byte("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 1 1 1 1 1 1 1 1 1\n"))
	if want := 630 * time.Millisecond; got != want || err != nil {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// lines reads an answer to its end.
func lines(r io.Reader) (status int, got []string, err error) {
	b := bufio.NewReaderSize(r, 64)
	status, length, err := readHead(b)
	if err != nil {
		return 0, nil, err
	}
	var body bodyReader
	body.open(b, length)
	for {
		line, err := body.next()
		if errors.Is(err, io.EOF) {
			return status, got, nil
		}
		if err != nil {
			return status, got, err
		}
		got = append(got, string(line))
	}
}

func TestBodyReader_LinesHoweverTheyAreDivided(t *testing.T) {
	long := strings.Repeat("x", 200) // more than the reader's buffer
	for _, c := range []struct {
		name, answer string
		want         []string
		err          error
	}{
		{"length", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\na\nbcd", []string{"a", "bcd"}, nil},
		{"no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", nil, nil},
		{"a line a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n3\r\nbc\n\r\n0\r\n\r\n", []string{"a", "bc"}, nil},
		{"lines across chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n2\r\nc\n\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n", []string{"a", "bc", "d"}, nil},
		{"long", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc9\r\n" + long + "\n\r\n0\r\n\r\n", []string{long}, nil},
		{"empty line", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\na\n", []string{"", "a"}, nil},
		{"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\na\nb", []string{"a"}, io.ErrUnexpectedEOF},
		{"cut between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n", []string{"a"}, io.ErrUnexpectedEOF},
		{"cut length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na\nb", []string{"a"}, io.ErrUnexpectedEOF},
		{"bad size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", nil, errChunk},
		{"longer than its size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", nil, errChunk},
	} {
		for how, r := range map[string]io.Reader{"at once": strings.NewReader(c.answer), "by bytes": iotest.OneByteReader(strings.NewReader(c.answer))} {
			status, got, err := lines(r)
			if status != 200 || !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
				t.Errorf("%s, %s: %d %q, %v; want %q, %v", c.name, how, status, got, err, c.want, c.err)
			}
		}
	}
}

// between lets a client talk to a connection of a node, through change.
func between(t *testing.T, change func(answer string) string) *client {
	t.Helper()
	near, far := net.Pipe()
	go func() { // ends with the connection
		defer far.Close()
		back, there := net.Pipe()
		go serveNode(there)
		defer back.Close()
		b := make([]byte, 64<<10)
		n, _ := far.Read(b)
		go func() { _, _ = back.Write(b[:n]) }()
		var answer strings.Builder
		for !strings.HasSuffix(answer.String(), "0\r\n\r\n") && !strings.HasSuffix(answer.String(), "30000000}") {
			one := make([]byte, 64<<10)
			n, err := back.Read(one)
			if err != nil {
				return
			}
			answer.Write(one[:n])
		}
		_, _ = io.WriteString(far, change(answer.String()))
	}()
	c := &client{ctx: t.Context(), conn: near, release: func() bool { return true }, r: bufio.NewReader(near)}
	t.Cleanup(c.close)
	return c
}

func TestClient_TakesOnlyTheRightAnswer(t *testing.T) {
	p := prompt{words: 3, nonce: 77}
	word := string(p.appendWord(nil, 1))
	for _, c := range []struct {
		name      string
		change    func(string) string
		ok, isCut bool
	}{
		{"as it is", func(s string) string { return s }, true, false},
		{"another word", func(s string) string { return strings.Replace(s, word, " wrong", 1) }, false, false},
		{"without its end", func(s string) string { return s[:len(s)-len("0\r\n\r\n")] }, false, false},
		{"cut", func(s string) string { return s[:strings.Index(s, word)] }, false, true},
		{"ended early, in order", func(s string) string {
			i := strings.LastIndex(s[:len(s)-len("0\r\n\r\n")], "\r\n{")
			return s[:strings.LastIndex(s[:i], "\r\n")] + "\r\n0\r\n\r\n"
		}, false, true},
		{"refused", func(string) string { return "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}" }, false, false},
	} {
		var o observer
		err := between(t, c.change).ask(p, true, &o)
		if (err == nil) != c.ok || errors.Is(err, errCut) != c.isCut {
			t.Errorf("streamed, %s: %v", c.name, err)
		}
		if c.ok && o.records != p.words+1 {
			t.Errorf("streamed: %d records, want %d", o.records, p.words+1)
		}
	}
	if err := between(t, func(s string) string { return s }).ask(p, false, new(observer)); err != nil {
		t.Errorf("single: %v", err)
	}
	if err := between(t, func(s string) string { return strings.Replace(s, word, "", 1) }).ask(p, false, new(observer)); err == nil {
		t.Error("single without a word: no error")
	}
}

func TestPrompt_IsReadAsItWasWritten(t *testing.T) {
	want := prompt{words: 40, rate: 100, pause: 7, nonce: 12345678901234567890}
	for _, stream := range []bool{true, false} {
		got, isStream, err := parseRequest(want.appendRequest(nil, stream))
		if got != want || isStream != stream || err != nil {
			t.Errorf("%+v, %t, %v; want %+v, %t", got, isStream, err, want, stream)
		}
	}
	for _, text := range []string{"", "Say words: 1", "Say words: x at a rate of 1 with a pause of 0 and number 2", "Say words: 1 at a rate of 1 with a pause of 0 and number 2!"} {
		if _, err := parsePrompt([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestAgeOf_IsTheTimeSinceTheStamp(t *testing.T) {
	stamped := time.Date(2026, 1, 2, 3, 4, 59, 999_999_000, time.UTC)
	record := new(clock).appendStamp([]byte(`{"model":"m","created_at":"`), stamped)
	record = append(record, '"')
	age, ok := ageOf(record, stamped.Add(1500*time.Microsecond))
	if !ok || age != 1500*time.Microsecond {
		t.Errorf("%v, %t, want 1.5ms", age, ok)
	}
	if _, ok := ageOf([]byte(`{"created_at":"2026-01-02T03:04:59Z"}`), stamped); ok {
		t.Error("a stamp of other digits was taken")
	}
}

func TestFigure_RatioIsThatOfTheRound(t *testing.T) {
	call := func(d time.Duration) *sample { return &sample{calls: []time.Duration{d}} }
	rounds := []round{
		{direct: call(1 * time.Millisecond), caddy: call(3 * time.Millisecond), gateway: call(2 * time.Millisecond)},
		{direct: call(1 * time.Millisecond), caddy: call(2 * time.Millisecond), gateway: call(3 * time.Millisecond)},
		{direct: call(2 * time.Millisecond), caddy: call(1 * time.Millisecond), gateway: call(3 * time.Millisecond)},
	}
	_, ratios := added(callMillis("p50", 0.5)).values(rounds, gateway)
	if ratios[0] != 0.5 || ratios[1] != 2 || !math.IsNaN(ratios[2]) {
		t.Errorf("%v, want 0.5, 2 and none, since the base was below direct", ratios)
	}
}
