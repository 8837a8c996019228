package cache

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// chat is a sampled call that rules can find.
func chat() Facts {
	return Facts{
		Model: "llama3:latest", Operation: "chat", Header: http.Header{"X-Source": {"wiki", "blog"}},
		Prompt: func() string { return "This is URGENT" },
	}
}

func yes() bool { return true }

func withText(rules ...Rule) Rules {
	for i := range rules {
		rules[i].Text = rules[i].String()
	}
	return rules
}

func TestJudge_WithoutRulesKeepsWhatHasOneAnswer(t *testing.T) {
	for _, test := range []struct {
		name string
		f    Facts
		want call.Verdict
	}{
		{"sampled", Facts{}, call.Verdict{Rule: "built-in: sampled", Class: "sampled", Why: "sampled"}},
		{"deterministic", Facts{Deterministic: true}, call.Verdict{TTL: 24 * time.Hour, Rule: "built-in: deterministic", Class: "deterministic"}},
		{"embedding", Facts{Embedding: true}, call.Verdict{TTL: call.Forever, Rule: "built-in: embed", Class: "embedding"}},
		{"embedding with a seed", Facts{Embedding: true, Deterministic: true}, call.Verdict{TTL: call.Forever, Rule: "built-in: embed", Class: "embedding"}},
	} {
		if got := new(Options).Judge(nil, &test.f); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestJudge_EachConditionOfARuleMustHold(t *testing.T) {
	for _, test := range []struct {
		name string
		rule Rule
		f    func(*Facts)
		want bool
	}{
		{"none", Rule{}, nil, true},
		{"model", Rule{Models: []string{"qwen*", "llama*"}}, nil, true},
		{"another model", Rule{Models: []string{"qwen*"}}, nil, false},
		{"operation", Rule{Operations: []string{"embed", "chat"}}, nil, true},
		{"another operation", Rule{Operations: []string{"generate"}}, nil, false},
		{"prompt", Rule{Prompts: []string{"*later*", "*urgent*"}}, nil, true},
		{"another prompt", Rule{Prompts: []string{"urgent*"}}, nil, false},
		{"no prompt", Rule{Prompts: []string{"*urgent*"}}, func(f *Facts) { f.Prompt = nil }, false},
		{"any prompt", Rule{Prompts: []string{"*"}}, func(f *Facts) { f.Prompt = nil }, true},
		{"header", Rule{Headers: []HeaderCondition{{"x-source", "*"}}}, nil, true},
		{"one value of a header", Rule{Headers: []HeaderCondition{{"X-Source", "BLOG"}}}, nil, true},
		{"another value", Rule{Headers: []HeaderCondition{{"X-Source", "docs"}}}, nil, false},
		{"no header", Rule{Headers: []HeaderCondition{{"X-Other", "*"}}}, nil, false},
		{"all headers", Rule{Headers: []HeaderCondition{{"X-Source", "w*"}, {"X-Source", "b*"}}}, nil, true},
		{"not all headers", Rule{Headers: []HeaderCondition{{"X-Source", "*"}, {"X-Other", "*"}}}, nil, false},
		{"no headers at all", Rule{Headers: []HeaderCondition{{"X-Source", "*"}}}, func(f *Facts) { f.Header = nil }, false},
		{"deterministic", Rule{Deterministic: true}, func(f *Facts) { f.Deterministic = true }, true},
		{"not deterministic", Rule{Deterministic: true}, nil, false},
		{"sampled", Rule{Sampled: true}, nil, true},
		{"not sampled", Rule{Sampled: true}, func(f *Facts) { f.Deterministic = true }, false},
		{"an embedding is not sampled", Rule{Sampled: true}, func(f *Facts) { f.Embedding = true }, false},
		{"an embedding is not deterministic", Rule{Deterministic: true}, func(f *Facts) { f.Embedding, f.Deterministic = true, true }, false},
		{"single turn", Rule{SingleTurn: true}, func(f *Facts) { f.SingleTurn = yes }, true},
		{"a conversation", Rule{SingleTurn: true}, nil, false},
		{"tools", Rule{Tools: true}, func(f *Facts) { f.Tools = yes }, true},
		{"no tools", Rule{Tools: true}, nil, false},
		{"all kinds", Rule{Models: []string{"llama3"}, Operations: []string{"chat"}, Prompts: []string{"*urgent"}, Sampled: true}, nil, true},
		{"all kinds but one", Rule{Models: []string{"llama3"}, Operations: []string{"chat"}, Prompts: []string{"*urgent"}, SingleTurn: true}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := chat()
			if test.f != nil {
				test.f(&f)
			}
			test.rule.TTL = 7 * time.Second
			rules := withText(test.rule)
			got := (&Options{Rules: rules}).Judge(nil, &f)
			if took := got.Rule == rules[0].Text; took != test.want || took != (got.TTL == 7*time.Second) {
				t.Errorf("%s: got %+v, want it to hold: %v", rules[0].Text, got, test.want)
			}
			if got.ToolCalls != (test.want && test.rule.Tools) {
				t.Errorf("%s: tool calls may be stored: %v", rules[0].Text, got.ToolCalls)
			}
		})
	}
}

func TestJudge_FirstRuleDecidesTheSitesBeforeTheRest(t *testing.T) {
	o := &Options{Rules: withText(
		Rule{TTL: 60 * time.Second, Prompts: []string{"*urgent*"}},
		Rule{TTL: time.Hour, Operations: []string{"chat"}},
	)}
	site := withText(Rule{TTL: 5 * time.Minute, Prompts: []string{"*site*"}})
	off := withText(Rule{Models: []string{"llama3"}})
	for _, test := range []struct {
		name          string
		site          Rules
		prompt        string
		operation     string
		want          time.Duration
		rule, because string
	}{
		{"the first", nil, "urgent", "chat", 60 * time.Second, "ttl 60s prompt *urgent*", ""},
		{"the second", nil, "hi", "chat", time.Hour, "ttl 1h operation chat", ""},
		{"the site's", site, "urgent site", "chat", 5 * time.Minute, "ttl 5m prompt *site*", ""},
		{"behind the site's", site, "urgent", "chat", 60 * time.Second, "ttl 60s prompt *urgent*", ""},
		{"off for the site", off, "urgent", "chat", 0, "ttl off model llama3", "rule"},
		{"none", site, "hi", "generate", 0, "built-in: sampled", "sampled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := chat()
			f.Prompt, f.Operation = func() string { return test.prompt }, test.operation
			want := call.Verdict{TTL: test.want, Rule: test.rule, Why: test.because, Class: "sampled"}
			if got := o.Judge(test.site, &f); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// Rules for some calls do not change what becomes of the others.
func TestJudge_RulesThatDoNotHoldLeaveTheBuiltInOnes(t *testing.T) {
	o := &Options{Rules: withText(Rule{TTL: time.Minute, Prompts: []string{"*urgent*"}})}
	for _, test := range []struct {
		f    Facts
		want time.Duration
	}{{Facts{Embedding: true}, call.Forever}, {Facts{Deterministic: true}, 24 * time.Hour}, {Facts{}, 0}} {
		if got := o.Judge(nil, &test.f); got.TTL != test.want {
			t.Errorf("%s: got %v, want %v", got.Class, got.TTL, test.want)
		}
	}
}

func TestJudge_AsksForThePromptOnceAndOnlyIfNeeded(t *testing.T) {
	for _, test := range []struct {
		name  string
		rules Rules
		want  int
	}{
		{"no rule wants it", withText(Rule{TTL: 1, Models: []string{"none"}}), 0},
		{"another condition fails before", withText(Rule{TTL: 1, Models: []string{"none"}, Prompts: []string{"*a*"}}), 0},
		{"several rules and globs", withText(Rule{TTL: 1, Prompts: []string{"a", "b"}}, Rule{TTL: 1, Prompts: []string{"c"}}), 1},
	} {
		f, asked := chat(), 0
		f.Prompt = func() string { asked++; return "" }
		(&Options{Rules: test.rules}).Judge(test.rules, &f)
		if asked != test.want {
			t.Errorf("%s: asked %d times, want %d", test.name, asked, test.want)
		}
	}
}

func TestJudge_BoundsATTL(t *testing.T) {
	d := func(d time.Duration) *time.Duration { return &d }
	for _, test := range []struct {
		name   string
		o      Options
		ttl    time.Duration // of the only rule
		client *time.Duration
		want   time.Duration
		why    string
	}{
		{"min", Options{Min: time.Minute}, time.Second, nil, time.Minute, ""},
		{"max", Options{Max: time.Minute}, time.Hour, nil, time.Minute, ""},
		{"the default max", Options{}, 90 * 24 * time.Hour, nil, 30 * 24 * time.Hour, ""},
		{"for ever is beyond", Options{Max: time.Minute}, call.Forever, nil, call.Forever, ""},
		{"off stays off", Options{Min: time.Minute}, 0, nil, 0, "rule"},
		{"the client's", Options{}, time.Hour, d(time.Minute), time.Minute, ""},
		{"the client's, longer", Options{}, time.Hour, d(2 * time.Hour), 2 * time.Hour, ""},
		{"the client's, raised", Options{Min: time.Hour}, time.Hour, d(time.Second), time.Hour, ""},
		{"the client's, lowered", Options{Max: time.Hour}, time.Hour, d(2 * time.Hour), time.Hour, ""},
		{"the client's off", Options{Min: time.Hour}, time.Hour, d(0), 0, "client"},
		{"the client's, against off", Options{}, 0, d(time.Minute), 0, "rule"},
		{"the client's, against for ever", Options{}, call.Forever, d(time.Minute), time.Minute, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := chat()
			f.ClientTTL = test.client
			test.o.Rules = withText(Rule{TTL: test.ttl})
			got := test.o.Judge(nil, &f)
			rule := test.o.Rules[0].Text
			if test.client != nil && test.ttl != 0 {
				rule = "client"
			}
			if want := (call.Verdict{TTL: test.want, Rule: rule, Why: test.why, Class: "sampled"}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestJudge_ClientMakesSampledAnswersCacheable(t *testing.T) {
	minute := time.Minute
	got := new(Options).Judge(nil, &Facts{ClientTTL: &minute})
	if want := (call.Verdict{TTL: minute, Rule: "client", Class: "sampled"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestMidnightAfter_IsTheNextLocalOne(t *testing.T) {
	at := func(zone, text string) time.Time {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.ParseInLocation(time.DateTime, text, loc)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	for _, test := range []struct {
		name string
		now  time.Time
		most time.Duration
		// Where midnight is unclear, any shorter time will do; in the past, nothing is stored.
		least time.Duration
	}{
		{"midnight", at("UTC", "2026-11-24 00:00:00"), 24 * time.Hour, 24 * time.Hour},
		{"a second before", at("UTC", "2026-11-24 23:59:59"), time.Second, time.Second},
		{"a short day", at("Europe/Berlin", "2026-03-29 00:00:00"), 23 * time.Hour, 23 * time.Hour},
		{"a long day", at("Europe/Berlin", "2026-10-25 00:00:00"), 25 * time.Hour, 25 * time.Hour},
		{"no midnight", at("America/Sao_Paulo", "2018-11-03 23:30:00"), 30 * time.Minute, -time.Hour},
		{"two midnights", at("America/Sao_Paulo", "2018-02-17 23:30:00"), 90 * time.Minute, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := MidnightAfter(test.now).Sub(test.now); got > test.most || got < test.least {
				t.Errorf("after %v, want between %v and %v", got, test.least, test.most)
			}
		})
	}
}

func TestLife_ShortensByJitterOnly(t *testing.T) {
	for _, test := range []struct {
		name   string
		jitter float64
		ttl    time.Duration
		rnd    float64
		want   time.Duration
	}{
		{"no luck", 0, 100 * time.Second, 0, 100 * time.Second},
		{"the default", 0, 100 * time.Second, 0.5, 95 * time.Second},
		{"half", 0.5, 100 * time.Second, 0.5, 75 * time.Second},
		{"none", -1, 100 * time.Second, 0.9, 100 * time.Second},
		{"for ever", 0.5, call.Forever, 0.9, call.Forever},
		{"off", 0.5, 0, 0.9, 0},
		{"never off by chance", 1, 1, 0.999, 1},
	} {
		o := &Options{Jitter: test.jitter}
		if got := o.Life(call.Verdict{TTL: test.ttl}, test.rnd); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	o := &Options{Rules: withText(
		Rule{TTL: 60 * time.Second, Prompts: []string{"*urgent*"}},
		Rule{TTL: 30 * 24 * time.Hour, Operations: []string{"embed"}},
		Rule{TTL: 24 * time.Hour, Deterministic: true},
		Rule{Models: []string{"*-vision"}, Operations: []string{"chat"}},
		Rule{TTL: time.Hour},
	)}
	f := chat()
	f.Prompt = func() string { return "What is the capital of France?" }
	b.ReportAllocs()
	for b.Loop() {
		if o.Judge(nil, &f).TTL != time.Hour {
			b.Fatal("another rule")
		}
	}
}
