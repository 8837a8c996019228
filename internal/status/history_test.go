package status

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func nobody() int { return 0 }

func TestHistory_TellsOutcomesInTheirStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHistory(nobody)
		for _, o := range gateway.Outcomes {
			h.Ended(&gateway.Record{Outcome: o})
		}
		h.Ended(&gateway.Record{Outcome: gateway.OK, Cache: call.CacheResult{Status: call.Hit}})
		time.Sleep(Step)
		h.Ended(&gateway.Record{Outcome: gateway.OK})
		time.Sleep(Step)

		s, minutes, _ := h.Read()
		if got := len(s.Answered); got != 120 {
			t.Fatalf("%d steps, want those of ten minutes", got)
		}
		for name, list := range map[string]struct {
			got  []int
			want [2]int
		}{
			"answered": {s.Answered, [2]int{1, 1}}, "from cache": {s.FromCache, [2]int{1, 0}},
			"overloaded": {s.Overloaded, [2]int{1, 0}}, "failed": {s.Failed, [2]int{4, 0}}, "clients": {s.Clients, [2]int{3, 0}},
		} {
			if got := [2]int(list.got[118:]); got != list.want {
				t.Errorf("%s: got %v, want %v", name, got, list.want)
			}
		}
		now := minutes[len(minutes)-1]
		if len(minutes) != 10 || now.Requests() != len(gateway.Outcomes)+2 || now.Rate != 1.1 {
			t.Errorf("%d minutes, the last one is %+v", len(minutes), now)
		}
		if !s.End.Equal(time.Now()) {
			t.Errorf("it ends at %v, now is %v", s.End, time.Now())
		}
	})
}

func TestHistory_ForgetsAfterTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHistory(nobody)
		h.Ended(&gateway.Record{Outcome: gateway.OK})
		time.Sleep(10 * time.Minute)
		if s, _, _ := h.Read(); s.Answered[0] != 1 {
			t.Errorf("after ten minutes the first step has %d", s.Answered[0])
		}
		time.Sleep(Step)
		s, minutes, _ := h.Read()
		for i, n := range s.Answered {
			if n != 0 {
				t.Errorf("step %d still has %d", i, n)
			}
		}
		if minutes[0].Requests() != 0 {
			t.Error("the oldest minute still has it")
		}
		time.Sleep(100 * time.Hour) // many times round
		h.Ended(&gateway.Record{Outcome: gateway.Timeout})
		time.Sleep(Step)
		if s, _, _ = h.Read(); s.Failed[119] != 1 || s.Failed[118] != 0 {
			t.Errorf("after a long time: %v", s.Failed)
		}
	})
}

func TestHistory_TokensAreWhereTheyWereGenerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHistory(nobody)
		time.Sleep(20 * time.Second)
		h.Ended(&gateway.Record{Outcome: gateway.OK, Took: 12 * time.Second, FirstByte: 2 * time.Second, Totals: wire.Totals{OutputTokens: 100}})
		time.Sleep(Step)
		s, _, _ := h.Read()
		sum := 0.0
		for _, rate := range s.TokensRate {
			sum += rate * s.Step
		}
		if got := [4]float64(s.TokensRate[115:119]); got != [4]float64{0, 0, 10, 10} || sum != 100 {
			t.Errorf("got %v, together %v; want 10 a second in the last ten", got, sum)
		}
		// One that began before there was a history counts from there.
		h.Ended(&gateway.Record{Outcome: gateway.OK, Totals: wire.Totals{OutputTokens: 10, Eval: time.Hour}})
	})
}

func TestHistory_TokensOfOthersAreNotGenerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHistory(nobody)
		time.Sleep(Step)
		saved := wire.Totals{PromptTokens: 7, OutputTokens: 40, Prompt: time.Second, Eval: 2 * time.Second}
		h.Ended(&gateway.Record{Outcome: gateway.OK, Stream: true, FirstByte: time.Millisecond, Cache: call.CacheResult{Status: call.Hit, Saved: saved}})
		h.Ended(&gateway.Record{Outcome: gateway.OK, Coalesced: true, Cache: call.CacheResult{Status: call.Miss, Saved: saved}})
		h.Ended(&gateway.Record{Outcome: gateway.OK, Cache: call.CacheResult{Status: call.Miss, Texts: call.Texts{Items: 6, Found: 3, Joined: 2, Sent: 1}}})
		_, minutes, got := h.Read()
		want := Saved{Hits: 1, Misses: 2, Coalesced: 1, PromptTokens: 14, OutputTokens: 80, NodeSeconds: 6, TextsFound: 3, TextsJoined: 2, TextsSent: 1}
		if got != want {
			t.Errorf("saved:\ngot  %+v\nwant %+v", got, want)
		}
		if now := minutes[9]; now.TokensRate != 0 || now.FirstP50 != nil {
			t.Errorf("a stored answer counts as generated: %+v", now)
		}
	})
}

func TestHistory_TheQueueIsKnownWhileNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waiting := 3
		h := NewHistory(func() int { return waiting })
		h.Chosen()
		waiting = 1
		h.Ended(&gateway.Record{Outcome: gateway.OK})
		time.Sleep(3 * Step)
		s, _, _ := h.Read()
		if got := [3]int(s.Waiting[117:]); got != [3]int{3, 1, 1} {
			t.Errorf("got %v, want the most of each step", got)
		}
	})
}

func TestHistory_FirstBytesAreOfGeneratedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHistory(nobody)
		for ms := 1; ms <= 1000; ms++ {
			h.Ended(&gateway.Record{Outcome: gateway.OK, Stream: true, FirstByte: time.Duration(ms) * time.Millisecond})
		}
		h.Ended(&gateway.Record{Outcome: gateway.OK, FirstByte: time.Hour})
		_, minutes, _ := h.Read()
		now := minutes[9]
		for _, q := range []struct{ got, want float64 }{{*now.FirstP50, .5}, {*now.FirstP95, .95}} {
			if q.got < q.want*.8 || q.got > q.want*1.2 {
				t.Errorf("got %v s, want about %v", q.got, q.want)
			}
		}
	})
}

func TestSpread_HoldsEveryDuration(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, 1, time.Millisecond, time.Second, 6 * time.Minute, 1000 * time.Hour} {
		var s spread
		s.add(d)
		got := *s.quantile(1)
		if exact := d.Seconds(); exact >= .001 && exact < 300 && (got < exact || got > exact*1.42) {
			t.Errorf("%v is told as %v s", d, got)
		}
	}
	if got := new(spread).quantile(.5); got != nil {
		t.Errorf("nothing has the median %v", *got)
	}
}

func BenchmarkHistory_Ended(b *testing.B) {
	h := NewHistory(nobody)
	r := &gateway.Record{Outcome: gateway.OK, Stream: true, FirstByte: time.Second, Took: 3 * time.Second, Totals: wire.Totals{OutputTokens: 100}}
	b.ReportAllocs()
	for b.Loop() {
		h.Ended(r)
	}
}
