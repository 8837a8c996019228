package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"text/template"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// A routing is a load that shows where calls go: to nodes that differ, or hold different
// things. The gateway's tests play the same in virtual time.
type routing struct {
	workload.Scenario
	goals []routingGoal
}

// A routingGoal is a limit for the gateway, and the bar it sets itself.
type routingGoal struct {
	row       int
	figure    string
	spell     func(float64) string
	value     func(ours, theirs *routingSample) float64
	must, bar float64
	more      bool // the limits are lower ones
}

// routings are all there are, in the order of the goals.
func routings() []routing {
	meanFirst := func(row int, must, bar float64) routingGoal {
		return routingGoal{row: row, figure: "TTFT mean, caddy", spell: ratio, must: must, bar: bar, value: func(ours, theirs *routingSample) float64 {
			return float64(mean(ours.firsts)) / float64(mean(theirs.firsts))
		}}
	}
	lateFirst := func(row int, must, bar float64) routingGoal {
		return routingGoal{row: row, figure: "TTFT p99, caddy", spell: ratio, must: must, bar: bar, value: func(ours, theirs *routingSample) float64 {
			return float64(percentile(ours.firsts, 0.99)) / float64(percentile(theirs.firsts, 0.99))
		}}
	}
	return []routing{
		{workload.Multimodel(), []routingGoal{
			meanFirst(10, 0.4, 0.15),
			{row: 10, figure: "loads", spell: whole, must: 60, bar: 20, value: func(s, _ *routingSample) float64 { return float64(s.loads) }},
		}},
		{workload.Multiturn(), []routingGoal{
			meanFirst(11, 0.7, 0.5),
			{row: 11, figure: "prefix hits", spell: ratio, must: 0.55, bar: 0.65, more: true, value: func(s, _ *routingSample) float64 { return s.prefixHits() }},
			lateFirst(11, 1, 0.9),
		}},
		{workload.Mixed(), []routingGoal{meanFirst(12, 1, 0.6), lateFirst(12, 1, 0.6)}},
		{workload.Hetero(), []routingGoal{
			meanFirst(13, 1.1, 1),
			{row: 13, figure: "latency p99, caddy", spell: ratio, must: 1, bar: 0.7, value: func(ours, theirs *routingSample) float64 {
				return float64(percentile(ours.tooks, 0.99)) / float64(percentile(theirs.tooks, 0.99))
			}},
		}},
	}
}

// routingName is what a routing is called among the scenarios: -scenarios routing chooses all.
func (r routing) name() string { return "routing-" + r.Name }

// A routingSample is what one load on one peer has shown.
type routingSample struct {
	mu            sync.Mutex      // guards what follows while the load runs
	firsts, tooks []time.Duration // sorted in the end
	texts         uint64          // a sum over all answers
	failed        int
	fault         error // the first

	loads          int
	prompt, prefix int   // tokens of prompts, and of these in a node's cache
	requests       []int // of each node
	busy           float64
}

func (s *routingSample) add(a chatAnswer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed++
		if s.fault == nil {
			s.fault = err
		}
		return
	}
	s.firsts, s.tooks = append(s.firsts, a.first), append(s.tooks, a.took)
	s.texts += a.sum()
}

func (s *routingSample) prefixHits() float64 { return float64(s.prefix) / float64(s.prompt) }

// count adds what a node says of itself, or takes it off.
func (s *routingSample) count(addrs []string, sign int) error {
	s.requests = slices.Grow(s.requests, len(addrs))[:len(addrs)]
	for i, addr := range addrs {
		report, err := askFaults(http.MethodGet, addr, nil)
		if err != nil {
			return err
		}
		s.loads += sign * report.Stats.Loads
		s.prompt += sign * report.Stats.PromptTokens
		s.prefix += sign * report.Stats.PrefixTokens
		s.requests[i] += sign * report.Stats.Requests["/api/chat"]
	}
	return nil
}

// mean is 0 of nothing.
func mean(times []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range times {
		sum += d
	}
	return sum / time.Duration(max(1, len(times)))
}

// routingSetup has the nodes of the load, and one proxy that knows their slots if it wants to.
func routingSetup(r routing, proxy string) setup {
	s := setup{
		proxies: []string{proxy}, config: routingCaddyfile(r), cold: len(r.Warm) == 0,
		answers: func(c *client) error { return asksVersion(c.ctx, c.addr) },
	}
	for i := range r.Nodes {
		s.each = append(s.each, []string{"-routing", r.Name, fmt.Sprint("-nth=", i)})
	}
	return s
}

// routingCaddyfile is the plain one, with the slots that each node has.
func routingCaddyfile(r routing) *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"slots": func(i int) int { return r.Nodes[i].Slots },
	}).Parse(`{
	admin unix/{{.Admin}}
	persist_config off
	auto_https off
{{- if .Gateway}}
	ollama {
{{- range $i, $node := .Nodes}}
		node {{$node}} {
			slots {{slots $i}}
		}
{{- end}}
	}
{{- end}}
}

http://:{{.Port}} {
	bind 127.0.0.1
{{- if .Gateway}}
	ollama
{{- else}}
	reverse_proxy {{range .Nodes}}{{.}} {{end}}{
		lb_policy least_conn
		flush_interval -1
	}
{{- end}}
}
`))
}

// route holds a load with processes of its own: what a proxy or a node has learned in one must
// not help it in the next.
func (b *bench) route(ctx context.Context, r routing, proxy string) (s *routingSample, err error) {
	fmt.Fprintf(b.progress, "%s, %s\n", r.name(), proxy)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause // says more than the failure it has led to
		}
	}()
	f, err := startFleet(ctx, b.binary, b.dir, routingSetup(r, proxy), cancel)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	s = new(routingSample)
	nodes := f.peers[0].addrs
	if err := s.count(nodes, -1); err != nil {
		return nil, err
	}
	busyBefore, err := busyTime()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	s.play(ctx, f.peers[1].addrs[0], r.Trace(1))
	busyAfter, err := busyTime()
	if err != nil {
		return nil, err
	}
	s.busy = share(busyAfter-busyBefore, time.Since(begun))
	slices.Sort(s.firsts)
	slices.Sort(s.tooks)
	return s, s.count(nodes, 1)
}

// play has all conversations and returns when the last one has ended.
func (s *routingSample) play(ctx context.Context, addr string, trace []workload.Conversation) {
	idle := &idleClients{ctx: ctx, addr: addr}
	defer idle.close()
	var done sync.WaitGroup
	for _, c := range trace {
		done.Go(func() { // ends with its last answer, at the latest when its patience does
			wait := func(d time.Duration) { _ = sleepUntil(ctx, time.Now().Add(d)) } // then its next question fails
			c.Hold(wait, func(body workload.Chat) (string, error) {
				one := idle.take()
				answer, err := one.askChat(body)
				idle.put(one)
				s.add(answer, err)
				return answer.text, err
			})
		})
	}
	done.Wait()
}
