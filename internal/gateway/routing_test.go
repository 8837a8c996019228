package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// routingSeeds make the loads of each scenario.
var routingSeeds = []uint64{1, 2, 3}

// A routingRun is the same load by each way.
type routingRun struct {
	seed           uint64
	gateway, plain *tally
	oracle         *tally // nil unless it is asked for
}

// run gives a load to nodes of its own by each way, in virtual time.
func (s routingScenario) run(t *testing.T, seed uint64) routingRun {
	by := func(way func(*testing.T, []*simnode.Node) http.RoundTripper) (out *tally) {
		synctest.Test(t, func(t *testing.T) {
			var nodes []*simnode.Node
			for _, o := range s.Nodes {
				n := simnode.New(o)
				t.Cleanup(n.Close)
				nodes = append(nodes, n)
			}
			for _, pipe := range pipesTo(t, nodes) {
				for _, model := range s.Warm {
					if _, err := say(t.Context(), pipe, workload.Chat{Model: model}); err != nil {
						t.Fatal(err)
					}
				}
			}
			out = play(t.Context(), nodes, way(t, nodes), s.Trace(seed))
			if len(out.faults) > 0 {
				t.Errorf("seed %d: %d answers failed, such as: %v", seed, len(out.faults), out.faults[0])
			}
		})
		return out
	}
	r := routingRun{
		seed: seed,
		gateway: by(func(t *testing.T, nodes []*simnode.Node) http.RoundTripper {
			r := s.rig(t, nodes)
			t.Cleanup(func() { synctest.Wait(); r.idle() })
			return r.front
		}),
		plain: by(func(t *testing.T, nodes []*simnode.Node) http.RoundTripper {
			return newLeastInFlight(pipesTo(t, nodes), seed)
		}),
	}
	if testing.Verbose() { // nothing depends on it
		r.oracle = by(func(t *testing.T, nodes []*simnode.Node) http.RoundTripper {
			return newOracle(pipesTo(t, nodes), s.Nodes, s.Warm)
		})
	}
	if r.gateway.texts != r.plain.texts {
		t.Errorf("seed %d: by the gateway other answers came than from the nodes", seed)
	}
	return r
}

func pipesTo(t *testing.T, nodes []*simnode.Node) (pipes []*simnode.Pipe) {
	for _, n := range nodes {
		pipe := simnode.NewPipe(n)
		t.Cleanup(pipe.Close)
		pipes = append(pipes, pipe)
	}
	return pipes
}

// rig puts the gateway before the nodes. It knows their slots and nothing else.
func (s routingScenario) rig(t *testing.T, nodes []*simnode.Node) *rig {
	var opts rigOptions
	var handlers []http.Handler
	for i, n := range nodes {
		opts.each = append(opts.each, s.Nodes[i].Slots)
		handlers = append(handlers, n)
	}
	return newRig(t, opts, handlers...)
}

// A call goes where it costs least: no needless loads, no lost conversations, no full node
// while another has room, and no slow one while a faster is as near.
func TestRouting_ACallGoesWhereItCostsLeast(t *testing.T) {
	for _, s := range routingScenarios() {
		t.Run(s.Name, func(t *testing.T) {
			begun := time.Now()
			var runs []routingRun
			for _, seed := range routingSeeds {
				runs = append(runs, s.run(t, seed))
			}
			t.Logf("%v of real time; x: of least in flight with the same seed\n%s", time.Since(begun).Round(time.Millisecond), routingTable(runs))
			for _, g := range s.goals {
				var values []float64
				for _, r := range runs {
					values = append(values, g.value(r.gateway, r.plain))
				}
				v := median(values)
				t.Logf("%s: %.2f, of the seeds %.2f; required %g", g.figure, v, values, g.required)
				if !g.keeps(v, g.required) {
					t.Errorf("%s is missed", g.figure)
				}
			}
		})
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// routingTable shows all figures of some runs, none of which is but counted there.
func routingTable(runs []routingRun) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "seed\tway\tTTFT ms mean\tp50\tp99\tx mean\tx p99\tlatency ms mean\tp99\tx mean\tx p99\tloads\tprefix share\trequests of nodes")
	for _, r := range runs {
		for _, way := range []struct {
			name string
			*tally
		}{{"gateway", r.gateway}, {"least in flight", r.plain}, {"full knowledge", r.oracle}} {
			if way.tally == nil {
				continue
			}
			fmt.Fprintf(w, "%d\t%s", r.seed, way.name)
			rowOf(w, way.tally, r.plain)
		}
	}
	w.Flush()
	return b.String()
}

func rowOf(w io.Writer, t, base *tally) {
	millis := func(d time.Duration) float64 { return ratio(d, time.Millisecond) }
	fmt.Fprintf(w, "\t%.1f\t%.1f\t%.0f\t%.2f\t%.2f", millis(mean(t.firsts)), millis(percentile(t.firsts, 0.5)), millis(percentile(t.firsts, 0.99)),
		meanFirst(t, base), lateFirst(t, base))
	fmt.Fprintf(w, "\t%.0f\t%.0f\t%.2f\t%.2f", millis(mean(t.tooks)), millis(percentile(t.tooks, 0.99)), ratio(mean(t.tooks), mean(base.tooks)), lateEnd(t, base))
	fmt.Fprintf(w, "\t%d\t%.2f\t%v\n", t.loads, t.prefixShare(), t.requests)
}
