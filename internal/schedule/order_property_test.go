package schedule

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// A loadStep is one thing that happens to a queue whose models have to be loaded.
type loadStep struct {
	Do, Which int
	Model     string
	Other     bool // with other runner options
}

// Whatever is asked, left, loaded, evicted and failed in whatever order: a node has one order at a
// time, a runner never more calls than slots, and in the end everybody has an answer.
func TestOrder_NeverTwoOnANodeNorMoreCallsThanSlots(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		count, slots := rapid.IntRange(1, 3).Draw(rt, "nodes"), rapid.IntRange(1, 3).Draw(rt, "slots")
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) loadStep {
			return loadStep{
				Do: rapid.IntRange(0, 9).Draw(rt, "do"), Which: rapid.IntRange(0, 1000).Draw(rt, "which"),
				Model: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "model"), Other: rapid.IntRange(0, 5).Draw(rt, "other") == 0,
			}
		}), 1, 60).Draw(rt, "steps")
		var wrong string
		synctest.Test(t, func(t *testing.T) {
			wrong = (&loadPlay{workshop: newWorkshop(t, nodes(count, slots), "a", "b", "c")}).play(steps)
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

type loadPlay struct {
	*workshop
	asked  []<-chan any
	leave  []context.CancelFunc
	grants []*Grant
	orders []*Order // being carried out
}

func (p *loadPlay) play(steps []loadStep) (wrong string) {
	for _, s := range steps {
		switch {
		case s.Do < 4:
			a := Ask{Model: s.Model}
			if s.Other {
				a.Requested, a.Effective = options(512), options(512)
			}
			ctx, cancel := context.WithCancel(context.Background())
			p.asked, p.leave = append(p.asked, p.ask(ctx, a)), append(p.leave, cancel)
		case s.Do < 6 && len(p.grants) > 0:
			i := s.Which % len(p.grants)
			p.grants[i].Release()
			p.grants = slices.Delete(p.grants, i, i+1)
		case s.Do == 6 && len(p.leave) > 0:
			p.leave[s.Which%len(p.leave)]()
		case len(p.orders) > 0:
			i := s.Which % len(p.orders)
			o := p.orders[i]
			p.orders = slices.Delete(p.orders, i, i+1)
			p.carryOut(o, s.Do)
		default:
			time.Sleep(time.Duration(s.Which) * 10 * time.Millisecond)
		}
		if wrong := p.look(); wrong != "" {
			return wrong
		}
	}
	// All that waits is served in the end.
	for range 1000 {
		switch {
		case len(p.orders) > 0:
			p.carryOut(p.orders[0], 9)
			p.orders = p.orders[1:]
		case len(p.grants) > 0:
			p.grants[0].Release()
			p.grants = p.grants[1:]
		case len(p.asked) > 0:
			time.Sleep(time.Second)
		default:
			return ""
		}
		if wrong := p.look(); wrong != "" {
			return wrong
		}
	}
	for _, leave := range p.leave {
		leave()
	}
	synctest.Wait()
	return "somebody still waits"
}

func (p *loadPlay) carryOut(o *Order, how int) {
	switch how {
	case 7:
		o.Done(errors.New("broken file"))
	case 8:
		o.Done(&Later{errors.New("busy")})
	default:
		snap := p.fleet.Snapshot()
		v := *viewOf(snap, o.Node)
		runners := slices.DeleteFunc(slices.Clone(v.Runners), func(r fleet.Runner) bool {
			return r.Key == o.Model || slices.Contains(o.Evict, r.Key)
		})
		runners = append(runners, fleet.Runner{Key: o.Model, Digest: o.Model, Exact: true, Options: o.Options, ContextLength: 2048, Size: 100})
		if len(runners) > 2 { // room for two
			runners = runners[1:]
		}
		next := *snap
		next.Nodes = slices.Clone(snap.Nodes)
		viewOf(&next, o.Node).Runners = runners
		p.fleet.set(&next)
		o.Done(nil)
	}
	synctest.Wait()
}

// look takes what has come and says what must not be.
func (p *loadPlay) look() (wrong string) {
	synctest.Wait()
	for o := p.next(); o != nil; o = p.next() {
		if slices.ContainsFunc(p.orders, func(other *Order) bool { return other.Node == o.Node }) {
			return "two orders on " + o.Node.Name()
		}
		p.orders = append(p.orders, o)
	}
	p.asked = slices.DeleteFunc(p.asked, func(got <-chan any) bool {
		select {
		case x := <-got:
			if g, ok := x.(*Grant); ok {
				p.grants = append(p.grants, g)
			}
			return true
		default:
			return false
		}
	})
	for _, o := range p.orders {
		if slices.ContainsFunc(p.grants, func(g *Grant) bool { return g.Node == o.Node && slices.Contains(o.Evict, g.use.key.model) }) {
			return "a model in use is being evicted"
		}
	}
	running := map[*fleet.Node]map[string]int{}
	for _, g := range p.grants {
		if running[g.Node] == nil {
			running[g.Node] = map[string]int{}
		}
		if running[g.Node][g.use.key.model]++; running[g.Node][g.use.key.model] > g.Node.Slots() {
			return "more calls than slots of " + g.use.key.model
		}
	}
	return ""
}
