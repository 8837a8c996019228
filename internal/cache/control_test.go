package cache

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

func TestControl_ReadsWhatTheClientWishes(t *testing.T) {
	s := func(n int64) *time.Duration { d := time.Duration(n) * time.Second; return &d }
	forever := call.Forever
	for _, test := range []struct {
		name  string
		lines []string
		want  call.Control
	}{
		{"nothing", nil, call.Control{}},
		{"an empty line", []string{""}, call.Control{}},
		{"no-cache", []string{"no-cache"}, call.Control{NoCache: true}},
		{"in any case", []string{"No-CACHE, NO-store"}, call.Control{NoCache: true, NoStore: true}},
		{"several lines", []string{"no-store", "only-if-cached"}, call.Control{NoStore: true, OnlyIfCached: true}},
		{"a reload of a browser", []string{"max-age=0"}, call.Control{MaxAge: s(0)}},
		{"numbers", []string{"max-age=60,min-fresh=5 ,\tmax-stale=10"}, call.Control{MaxAge: s(60), MinFresh: s(5), MaxStale: s(10)}},
		{"max-stale alone", []string{"max-stale"}, call.Control{MaxStale: &forever}},
		{"max-stale empty", []string{"max-stale="}, call.Control{}},
		{"max-stale garbage", []string{"max-stale=soon"}, call.Control{}},
		{"max-age alone", []string{"max-age"}, call.Control{}},
		{"a quoted number", []string{`max-age="60"`}, call.Control{MaxAge: s(60)}},
		{"blanks around the sign", []string{"max-age = 60"}, call.Control{MaxAge: s(60)}},
		{"negative", []string{"max-age=-1, max-stale=-5"}, call.Control{}},
		{"signed", []string{"max-age=+1"}, call.Control{}},
		{"a fraction", []string{"max-age=1.5"}, call.Control{}},
		{"huge", []string{"max-age=99999999999999999999999"}, call.Control{MaxAge: s(mostSeconds)}},
		{"the first one counts", []string{"max-age=5, max-age=60", "max-age=70"}, call.Control{MaxAge: s(5)}},
		{"garbage before the first one", []string{"max-age=x, max-age=60"}, call.Control{MaxAge: s(60)}},
		{"quoted commas", []string{`foo="a, no-store, \", no-store", no-cache`}, call.Control{NoCache: true}},
		{"no-cache with a field", []string{`no-cache="x"`}, call.Control{NoCache: true}},
		{"an open quote", []string{`foo="a, no-store`}, call.Control{}},
		{"unknown words and commas", []string{",, foo=bar, =x, no-transform ,no-store,"}, call.Control{NoStore: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ParseControl(http.Header{"Cache-Control": test.lines})
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("%q: got %s, want %s", test.lines, show(got), show(test.want))
			}
		})
	}
}

func show(c call.Control) string {
	text := fmt.Sprint(c.NoCache, c.NoStore, c.OnlyIfCached)
	for _, d := range []*time.Duration{c.MaxAge, c.MinFresh, c.MaxStale} {
		if d == nil {
			text += " -"
		} else {
			text += " " + d.String()
		}
	}
	return text
}

func TestControl_PragmaCountsAloneOnly(t *testing.T) {
	for _, test := range []struct {
		name   string
		header http.Header
		want   bool
	}{
		{"alone", http.Header{"Pragma": {"x, No-Cache"}}, true},
		{"another word", http.Header{"Pragma": {"x"}}, false},
		{"with Cache-Control", http.Header{"Pragma": {"no-cache"}, "Cache-Control": {"max-age=60"}}, false},
		{"with an empty Cache-Control", http.Header{"Pragma": {"no-cache"}, "Cache-Control": {""}}, false},
	} {
		if got := ParseControl(test.header).NoCache; got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add("no-cache, max-age=60", `foo="a, b\""`)
	f.Add("max-stale", "max-stale=5, only-if-cached")
	f.Add(`"`, "=,=,\\")
	f.Add("MAX-AGE=99999999999999999999", "min-fresh=\"7\"")
	f.Fuzz(func(t *testing.T, one, two string) {
		got := ParseControl(http.Header{"Cache-Control": {one, two}})
		for _, d := range []*time.Duration{got.MaxAge, got.MinFresh, got.MaxStale} {
			if d != nil && (*d < 0 || *d > mostSeconds*time.Second && *d != call.Forever) {
				t.Errorf("%q, %q: %v", one, two, *d)
			}
		}
		// Lines are one list, unless a quote is left open.
		open := strings.Count(one, `"`)%2 != 0 || strings.Contains(one, `\`)
		if joined := ParseControl(http.Header{"Cache-Control": {one + "," + two}}); !open && !reflect.DeepEqual(got, joined) {
			t.Errorf("%q, %q: got %s, joined %s", one, two, show(got), show(joined))
		}
		if more := ParseControl(http.Header{"Cache-Control": {"foo=\"no-store, \\\"\"", one, two, ",bar"}}); !reflect.DeepEqual(got, more) {
			t.Errorf("%q, %q: got %s, with unknown words %s", one, two, show(got), show(more))
		}
	})
}

func TestClientTTL_IsBoundedByTheSite(t *testing.T) {
	const none = -1
	for _, test := range []struct {
		text string
		most time.Duration
		want time.Duration
	}{
		{"", time.Hour, none},
		{"60", time.Hour, time.Minute},
		{"0", time.Hour, 0},
		{"0s", time.Hour, 0},
		{" 10m ", time.Hour, 10 * time.Minute},
		{"1h30m", 24 * time.Hour, 90 * time.Minute},
		{"1d", 48 * time.Hour, 24 * time.Hour},
		{"1d12h", 48 * time.Hour, 36 * time.Hour},
		{"7d", time.Hour, time.Hour},
		{"99999999999999999999", time.Hour, time.Hour},
		{"99999999999999999999d", time.Hour, time.Hour},
		{"99999999999d2540400h", call.Forever, 24855*24*time.Hour + mostSeconds*time.Second},
		{"3600", 0, none},
		{"-1", time.Hour, none},
		{"-5m", time.Hour, none},
		{"-0s", time.Hour, none},
		{"1d-5m", time.Hour, none},
		{"-1d", time.Hour, none},
		{"1.5d", time.Hour, none},
		{"d", time.Hour, none},
		{"1.5", time.Hour, none},
		{"0x10", time.Hour, none},
		{"1e3", time.Hour, none},
		{"forever", time.Hour, none},
		{"1dd", time.Hour, none},
		{strings.Repeat("0", 100), time.Hour, none},
	} {
		got := ClientTTL(http.Header{"X-Cache-Ttl": {test.text}}, test.most)
		switch {
		case got == nil && test.want != none:
			t.Errorf("%q, most %v: got nothing, want %v", test.text, test.most, test.want)
		case got != nil && *got != test.want:
			t.Errorf("%q, most %v: got %v, want %v", test.text, test.most, *got, test.want)
		}
	}
	if got := ClientTTL(http.Header{}, time.Hour); got != nil {
		t.Errorf("no header: got %v", *got)
	}
}

func TestTags_AreFewShortAndVisible(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []string
		want   []string
	}{
		{"none", nil, nil},
		{"blank", []string{" , ,"}, nil},
		{"commas and blanks", []string{"a,b c\t d ,e"}, []string{"a", "b", "c", "d", "e"}},
		{"several lines", []string{"a", "b"}, []string{"a", "b"}},
		{"each once", []string{"a, b, a", "b"}, []string{"a", "b"}},
		{"case matters", []string{"a A"}, []string{"a", "A"}},
		{"eight", []string{"1 2 3 1 4 5", "6 7 8 9 10"}, []string{"1", "2", "3", "4", "5", "6", "7", "8"}},
		{"64 bytes", []string{strings.Repeat("x", 64) + " " + strings.Repeat("y", 65) + " z"}, []string{strings.Repeat("x", 64), "z"}},
		{"signs", []string{"post:42/de;v=1 \"x\""}, []string{"post:42/de;v=1", `"x"`}},
		{"letters of all people", []string{"größe हिन्दी 日本"}, []string{"größe", "हिन्दी", "日本"}},
		{"what cannot be seen", []string{"a\x00 b\x7f \u200b \u202ec ok"}, []string{"ok"}},
		{"bad UTF-8", []string{"a\xff ok \ufffd"}, []string{"ok"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Tags(test.values); !slices.Equal(got, test.want) {
				t.Errorf("%q: got %q, want %q", test.values, got, test.want)
			}
		})
	}
}
