package wire

import "strconv"

// Sampling is what decides whether a request can be answered in one way only. Its zero value
// sets nothing.
type Sampling struct {
	Temperature OptionalFloat
	Seed        OptionalInt
}

// Over gives what s sets, and what base sets beyond it: a request's over its model's.
func (s Sampling) Over(base Sampling) Sampling {
	if !s.Temperature.Set {
		s.Temperature = base.Temperature
	}
	s.Seed = s.Seed.or(base.Seed)
	return s
}

// Deterministic tells whether the same request is answered alike again, as far as a node can
// do that: the temperature is 0, or there is a seed. A seed of -1 is a random one; what other
// negative ones are differs between a node's runners.
func (s Sampling) Deterministic() bool {
	return s.Temperature.Set && s.Temperature.Value == 0 || s.Seed.Set && s.Seed.Value >= 0
}

// Sampling is what the request itself sets for the runner, whatever its model's parameters
// say. A native request does it by its options. The translators of OpenAI's chats,
// completions and responses set a temperature of 1.0 where there is none, that of Anthropic
// sets none (openai/openai.go, openai/responses.go and anthropic/anthropic.go of 0.24.0).
// Embeddings are not sampled.
func (r *Request) Sampling() (s Sampling) {
	switch {
	case r.source == nil || r.Route.Operation == Embed:
	case r.Route.Dialect == Ollama:
		s = r.sampling
	default:
		s.Temperature = optionalFloat(r.source.raw("temperature"))
		if r.Route.Dialect == OpenAI && !s.Temperature.Set {
			s.Temperature = OptionalFloat{Value: 1, Set: true}
		}
		if seed := r.source.raw("seed"); seed != nil { // no schema but OpenAI's has it
			s.Seed = OptionalInt{Value: r.source.int("seed"), Set: true}
		}
	}
	return s
}

// optionalFloat reads a JSON value, which sets nothing if it is no number.
func optionalFloat(value []byte) OptionalFloat {
	if len(value) == 0 || !isNumber(value[0]) {
		return OptionalFloat{}
	}
	f, err := strconv.ParseFloat(string(value), 64)
	return OptionalFloat{Value: f, Set: err == nil}
}
