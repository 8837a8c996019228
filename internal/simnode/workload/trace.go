package workload

import (
	"math/rand/v2"
	"strings"
	"time"
)

// A Conversation is what one client does: it asks, reads the answer to its end, thinks, and
// asks again with all that has been said. A single request is a conversation of one turn.
type Conversation struct {
	At     time.Duration // since the load began
	Model  string
	System string // "": none
	Turns  []Turn
}

// A Turn is one question.
type Turn struct {
	Think time.Duration // after the answer before
	Says  string
	Most  int // tokens of the answer (num_predict); 0: as many as the model likes
}

// A Message is one of those that a chat has.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A Chat is the body of a request to /api/chat; its answer is a function of it.
type Chat struct {
	Model    string         `json:"model"`
	Messages []Message      `json:"messages,omitempty"` // none: the model is only loaded
	Options  map[string]any `json:"options,omitempty"`
}

// Hold has the conversation: it asks one turn after the other, until one fails. Its beginning
// and the thinking are the caller's to wait for.
func (c Conversation) Hold(wait func(time.Duration), ask func(Chat) (answer string, err error)) {
	wait(c.At)
	var history []Message
	if c.System != "" {
		history = append(history, Message{"system", c.System})
	}
	for i, t := range c.Turns {
		if i > 0 {
			wait(t.Think)
		}
		history = append(history, Message{"user", t.Says})
		options := map[string]any{"temperature": 0}
		if t.Most > 0 {
			options["num_predict"] = t.Most
		}
		answer, err := ask(Chat{c.Model, history, options})
		if err != nil {
			return
		}
		history = append(history, Message{"assistant", answer})
	}
}

func single(model, says string, most int) Conversation {
	return Conversation{Model: model, Turns: []Turn{{Says: says, Most: most}}}
}

// dice make up a trace; equal seeds make equal ones.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 6))} }

func (d dice) between(least, most int) int { return least + d.IntN(most-least+1) }

// pause is an exponential time of that mean, cut at four times it.
func (d dice) pause(mean time.Duration) time.Duration {
	return min(time.Duration(d.ExpFloat64()*float64(mean)), 4*mean)
}

// zipf draws a number below n; k is 1/(k+1) times as likely as 0.
func (d dice) zipf(n int) int {
	whole := 0.0
	for k := range n {
		whole += 1 / float64(k+1)
	}
	at := d.Float64() * whole
	for k := range n - 1 {
		if at -= 1 / float64(k+1); at < 0 {
			return k
		}
	}
	return n - 1
}

// said are words that are one token each to a simulated node.
var said = strings.Fields(`river boat bridge garden kitchen letter morning window road hill forest market lamp table
	teacher child story question answer machine network server cable island harbour train station winter summer bird`)

// text is so many tokens. Two texts hardly ever begin with the same five.
func (d dice) text(tokens int) string {
	var b strings.Builder
	for range tokens {
		b.WriteString(" " + said[d.IntN(len(said))])
	}
	return b.String()
}

// open spreads conversations over a time as clients do that know nothing of each other,
// whether the earlier ones are answered or not.
func (d dice) open(count int, over time.Duration, one func() Conversation) []Conversation {
	all := make([]Conversation, count)
	at := 0.0
	for i := range all {
		all[i] = one()
		at += d.ExpFloat64()
		all[i].At = time.Duration(at * float64(over) / float64(count))
	}
	return all
}

// times are when so many come who know nothing of each other.
func (d dice) times(count int, over time.Duration) []time.Duration {
	all := make([]time.Duration, count)
	at := 0.0
	for i := range all {
		at += d.ExpFloat64()
		all[i] = time.Duration(at * float64(over) / float64(count))
	}
	return all
}
