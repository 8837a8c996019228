// Package workload is test support: simulated nodes and the loads that show where calls should
// go. It knows no client and no goals; tests in virtual time and the bench play the same.
//
// The four are those of the lab that measured the peers, as far as its report tells: the sizes
// are such that the least in flight comes out here as plain Caddy did there, and a client with
// full knowledge as the lab's. All is some ten times as fast as real models are.
package workload

import (
	"fmt"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A Scenario is nodes and the load that they get.
type Scenario struct {
	Name  string
	About string
	Nodes []simnode.Options
	Warm  []string // models that each node has loaded before

	trace func(dice) []Conversation
}

// Trace is the load, in the order of its beginnings. Equal seeds make equal ones.
func (s Scenario) Trace(seed uint64) []Conversation {
	return s.trace(newDice(seed))
}

const ms = time.Millisecond

func quick(name string) simnode.Model {
	return simnode.Model{
		Name: name, FirstToken: 5 * ms, PromptRate: 10000, DecodeRate: 200, ShortestAnswer: 6, LongestAnswer: 12,
		// The lab's took 500 ms; by the loads it counted, more than one at a time. Here they queue as in Ollama, and
		// with 320 ms the least in flight waits as long as there, 0.5 s.
		LoadTime: 320 * ms,
	}
}

func four(o simnode.Options, differ func(i int, o *simnode.Options)) []simnode.Options {
	all := []simnode.Options{o, o, o, o}
	for i := range all {
		differ(i, &all[i])
	}
	return all
}

func alike(int, *simnode.Options) {}

// Multimodel has as many models as the fleet has room for, two a node; nothing is loaded.
func Multimodel() Scenario {
	var models []simnode.Model
	for i := range 8 {
		models = append(models, quick(fmt.Sprintf("m%d", i)))
	}
	return Scenario{
		Name: "multimodel", About: "Eight models, of which each node has room for two; nothing is loaded",
		Nodes: four(simnode.Options{Models: models, MaxLoaded: 2, Slots: 4}, alike),
		trace: func(d dice) []Conversation {
			return d.open(200, 10*time.Second, func() Conversation {
				return single(fmt.Sprintf("m%d", d.zipf(8)), d.text(30), 0)
			})
		},
	}
}

// Multiturn has 30 conversations, some ten at a time before 16 slots. The first message is
// long, the next ones are short. A runner remembers little more than its slots hold.
func Multiturn() Scenario {
	m := quick("chat")
	m.PromptRate, m.ShortestAnswer, m.LongestAnswer = 5000, 13, 27
	return Scenario{
		Name: "multiturn", About: "Conversations of 4 to 8 turns with four system prompts",
		Nodes: four(simnode.Options{Models: []simnode.Model{m}, Slots: 4, PromptCache: 1000}, alike),
		Warm:  []string{m.Name},
		trace: func(d dice) []Conversation {
			systems := []string{d.text(200), d.text(200), d.text(200), d.text(200)}
			return d.open(30, 9*time.Second, func() Conversation {
				c := single(m.Name, d.text(d.between(200, 300)), 0)
				c.System = systems[d.IntN(len(systems))]
				for range d.between(3, 7) {
					c.Turns = append(c.Turns, Turn{Think: 200*ms + d.pause(350*ms), Says: d.text(d.between(20, 60))})
				}
				return c
			})
		},
	}
}

// Mixed has requests of which half want few tokens and say so, and a tenth have a long prompt,
// before nodes of 1, 2, 4 and 8 slots.
func Mixed() Scenario {
	m := quick("chat")
	m.ShortestAnswer, m.LongestAnswer = 10, 46
	return Scenario{
		Name: "mixed", About: "Requests of all sizes before nodes of 1, 2, 4 and 8 slots",
		Nodes: four(simnode.Options{Models: []simnode.Model{m}}, func(i int, o *simnode.Options) { o.Slots = 1 << i }),
		Warm:  []string{m.Name},
		trace: func(d dice) []Conversation {
			return d.open(350, 10*time.Second, func() Conversation {
				switch n := d.IntN(10); {
				case n < 5:
					return single(m.Name, d.text(d.between(10, 40)), 4)
				case n < 9:
					return single(m.Name, d.text(d.between(20, 100)), 0)
				}
				return single(m.Name, d.text(d.between(400, 1200)), 0)
			})
		},
	}
}

// Hetero has small requests and a last node of half the speed in all it does.
func Hetero() Scenario {
	m := quick("chat")
	m.DecodeRate = 250
	return Scenario{
		Name: "hetero", About: "Small requests before nodes of which one has half the speed",
		Nodes: four(simnode.Options{Models: []simnode.Model{m}, Slots: 4}, func(i int, o *simnode.Options) {
			if i == 3 {
				o.Scale = 2
			}
		}),
		Warm: []string{m.Name},
		trace: func(d dice) []Conversation {
			return d.open(500, 8*time.Second, func() Conversation {
				return single(m.Name, d.text(d.between(10, 40)), 0)
			})
		},
	}
}
