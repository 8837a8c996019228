package workload

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// Vectors is the embedding model of Repeats.
const Vectors = "vectors"

// A Repetition is a load in which much is asked more than once, so that its answers can be shared
// while they are made.
type Repetition struct {
	About string
	Node  simnode.Options // of each of four
}

// A Request is a chat, or texts to embed.
type Request struct {
	At     time.Duration // since the load began
	Chat   *Chat         // nil: Inputs
	Inputs []string      // for the model Vectors
}

// Repeats keeps the slots of four nodes some two thirds busy, if nothing is shared. Its embedding
// model works at the texts of a call together, as a runner that batches would.
func Repeats() Repetition {
	chat := simnode.Model{Name: "chat", FirstToken: 100 * ms, PromptRate: 5000, DecodeRate: 100, ShortestAnswer: 20, LongestAnswer: 60}
	vectors := simnode.Model{Name: Vectors, EmbedCall: 12 * ms, PromptRate: 5000, Capabilities: []string{simnode.Embedding}}
	return Repetition{
		About: "120 chats of 30 questions, and some 1300 requests for the vectors of one to three of 400 texts, which come in bursts; all as popular as Zipf says",
		Node:  simnode.Options{Slots: 4, Models: []simnode.Model{chat, vectors}},
	}
}

// Requests are the load, in no order. Equal seeds make equal ones.
func (r Repetition) Requests(seed uint64) (all []Request) {
	d := newDice(seed)
	questions, texts := make([]string, 30), make([]string, 400)
	for i := range questions {
		questions[i] = d.text(40)
	}
	for i := range texts {
		texts[i] = d.text(8)
	}
	const lasting = 10 * time.Second
	for _, at := range d.times(120, lasting) {
		all = append(all, Request{At: at, Chat: &Chat{
			Model:    r.Node.Models[0].Name,
			Messages: []Message{{"user", questions[d.zipf(len(questions))]}},
			Options:  map[string]any{"temperature": 0},
		}})
	}
	for _, at := range d.times(160, lasting) {
		for range d.between(1, 16) { // a document comes in parts
			one := Request{At: at}
			for range d.between(1, 3) {
				one.Inputs = append(one.Inputs, texts[d.zipf(len(texts))])
			}
			all = append(all, one)
		}
	}
	return all
}
