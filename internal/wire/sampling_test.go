package wire

import (
	"math"
	"testing"
)

func TestSampling_IsWhatTheRunnerGets(t *testing.T) {
	warm := func(f float64) Sampling { return Sampling{Temperature: OptionalFloat{Value: f, Set: true}} }
	seeded := func(s Sampling, n int) Sampling {
		s.Seed = OptionalInt{Value: n, Set: true}
		return s
	}
	const native, chat, completion, responses, messages = "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
	tests := []struct {
		name, path, body string
		want             Sampling
		deterministic    bool
	}{
		{"nothing", native, `"messages":[{}]`, Sampling{}, false},
		{"cold", native, `"messages":[{}],"options":{"temperature":0.0}`, warm(0), true},
		{"seeded", native, `"messages":[{}],"options":{"seed":2.7,"temperature":1}`, seeded(warm(1), 2), true},
		{"a random seed", native, `"messages":[{}],"options":{"seed":-1}`, seeded(Sampling{}, -1), false},
		{"seed zero", native, `"messages":[{}],"options":{"seed":0}`, seeded(Sampling{}, 0), true},
		{"a seed beyond int", native, `"messages":[{}],"options":{"seed":1e30}`, seeded(Sampling{}, math.MaxInt), true},
		{"null is the default", native, `"messages":[{}],"options":{"seed":null,"temperature":null}`, Sampling{}, false},
		{"another case is no option", native, `"messages":[{}],"options":{"Seed":1,"TEMPERATURE":0}`, Sampling{}, false},
		{"what is no number", native, `"messages":[{}],"options":{"seed":"1","temperature":[0]}`, Sampling{}, false},
		{"no options", native, `"messages":[{}],"options":null`, Sampling{}, false},
		{"fields at the top are none", native, `"messages":[{}],"temperature":0,"seed":1`, Sampling{}, false},
		{"a prompt", "/api/generate", `"prompt":"x","options":{"temp\u0065rature":0}`, warm(0), true},
		{"OpenAI without", chat, `"messages":[{"content":"x"}]`, warm(1), false},
		{"OpenAI with null", chat, `"messages":[{"content":"x"}],"temperature":null,"seed":null`, warm(1), false},
		{"OpenAI, cold", chat, `"messages":[{"content":"x"}],"temperature":0e5`, warm(0), true},
		{"OpenAI, seeded", chat, `"messages":[{"content":"x"}],"seed":7`, seeded(warm(1), 7), true},
		{"OpenAI's options are none", chat, `"messages":[{"content":"x"}],"options":{"temperature":0,"seed":1}`, warm(1), false},
		{"a completion", completion, `"prompt":"x","seed":-1`, seeded(warm(1), -1), false},
		{"a cold completion", completion, `"prompt":"x","temperature":0`, warm(0), true},
		{"a response", responses, `"input":"x"`, warm(1), false},
		{"a response takes no seed", responses, `"input":"x","seed":1`, warm(1), false},
		{"a cold response", responses, `"input":"x","temperature":0`, warm(0), true},
		{"Anthropic without", messages, `"max_tokens":1,"messages":[{"content":"x"}],"seed":1`, Sampling{}, false},
		{"Anthropic, cold", messages, `"max_tokens":1,"messages":[{"content":"x"}],"temperature":0`, warm(0), true},
		{"vectors", "/api/embed", `"input":"x","options":{"temperature":0}`, Sampling{}, false},
		{"older vectors", "/api/embeddings", `"prompt":"x","options":{"seed":1}`, Sampling{}, false},
		{"OpenAI's vectors", "/v1/embeddings", `"input":"x","temperature":0`, Sampling{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := mustParse(t, test.path, `{"model":"a",`+test.body+`}`).Sampling()
			if got != test.want || got.Deterministic() != test.deterministic {
				t.Errorf("%s: got %+v, deterministic %v, want %+v", test.body, got, got.Deterministic(), test.want)
			}
			base := Sampling{Temperature: OptionalFloat{Set: true}}
			if over := got.Over(base); over.Deterministic() != (test.deterministic || !got.Temperature.Set) {
				t.Errorf("%s: over a cold model %+v", test.body, over)
			}
		})
	}
}

func TestSampling_RequestGoesBeforeItsModel(t *testing.T) {
	model := Sampling{Temperature: OptionalFloat{Value: 0.3, Set: true}, Seed: OptionalInt{Value: 5, Set: true}}
	request := Sampling{Seed: OptionalInt{Value: -1, Set: true}}
	want := Sampling{Temperature: OptionalFloat{Value: 0.3, Set: true}, Seed: OptionalInt{Value: -1, Set: true}}
	if got := request.Over(model); got != want || got.Deterministic() {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := (Sampling{}).Over(model); got != model || !got.Deterministic() {
		t.Errorf("got %+v, want %+v", got, model)
	}
}
