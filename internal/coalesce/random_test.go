package coalesce

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Whatever clients and nodes do, in whatever order: nobody hangs, who stays hears each frame of
// one answer to its own question once and in order to the end that this has, and what nobody
// waits for ends.
func TestFlights_NobodyHangsAndWhoStaysHearsEverything(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			d := &drama{rand: rand.New(rand.NewPCG(seed, 8)), fate: make(map[*upstream]*fate)}
			onStage(t, Options{MaxFollowers: d.rand.IntN(5)}, func(s *stage) {
				d.stage, s.limit = s, []int{0, 60}[d.rand.IntN(2)]
				began := time.Now()
				for range 150 {
					d.act()
					if d.rand.IntN(3) == 0 { // else what follows happens at the same time
						d.look()
					}
				}
				if d.rand.IntN(2) == 0 {
					for _, k := range d.clients {
						k.leave()
					}
				}
				d.finish()
				if took := time.Since(began); took != 0 {
					t.Errorf("something waited for %v", took)
				}
			})
		})
	}
}

// A drama is what happens on a stage at random.
type drama struct {
	*stage
	rand    *rand.Rand
	clients []*client
	fate    map[*upstream]*fate
}

// A fate is what a node did for an upstream call.
type fate struct {
	begun    bool
	frames   []string
	complete bool
	broken   bool
}

func (d *drama) act() {
	switch d.rand.IntN(12) {
	case 0, 1, 2:
		d.clients = append(d.clients, d.asks(d.question()))
	case 3:
		if len(d.clients) > 0 {
			d.clients[d.rand.IntN(len(d.clients))].leave()
		}
	case 4, 5:
		d.each(func(u *upstream, f *fate) {
			if !f.begun {
				d.begin(u, f)
			}
		})
	case 6, 7, 8:
		d.each(d.says)
	case 9:
		d.each(func(u *upstream, f *fate) {
			if !f.begun {
				f.begun = true
				u.answer([]reply{{err: errBoom}, {panic: errBoom}}[d.rand.IntN(2)])
			} else if u.w != nil && d.rand.IntN(2) == 0 {
				f.broken = true
				u.w.Break(errBoom)
			}
		})
	case 10:
		d.each(d.completes)
	case 11:
		if d.rand.IntN(4) == 0 {
			d.flights.Forget()
		}
	}
}

// question is one of two, in both dialects.
func (d *drama) question() *call.Call {
	make := []func(string) *call.Call{chat, openAI}[d.rand.IntN(2)]
	c := make([]string{"a", "b"}[d.rand.IntN(2)])
	c.Class = call.Class(d.rand.IntN(6) / 2)
	c.Joining.Alone = d.rand.IntN(8) == 0
	return c
}

// each does something to one upstream call in two.
func (d *drama) each(do func(*upstream, *fate)) {
	for _, u := range d.upstreams() {
		if d.rand.IntN(2) == 0 {
			do(u, d.of(u))
		}
	}
}

func (d *drama) of(u *upstream) *fate {
	if d.fate[u] == nil {
		d.fate[u] = new(fate)
	}
	return d.fate[u]
}

func (d *drama) begin(u *upstream, f *fate) {
	f.begun = true
	r := u.record()
	d.says(u, f)
	u.answer(reply{r: r})
}

func (d *drama) says(u *upstream, f *fate) {
	if u.w == nil || f.complete || f.broken {
		return
	}
	frame := fmt.Sprintf("%d:%d;", u.id, len(f.frames))
	if u.w.Append([]byte(frame), wire.Part, d.rand.IntN(4) == 0) == nil {
		f.frames = append(f.frames, frame)
	}
}

func (d *drama) completes(u *upstream, f *fate) {
	if u.w == nil || f.complete || f.broken || u.w.Append([]byte("."), wire.Final, true) != nil {
		return
	}
	f.frames, f.complete = append(f.frames, "."), true
	u.w.Complete()
}

// look waits until nothing happens by itself any more, and checks what is so then.
func (d *drama) look() {
	d.t.Helper()
	synctest.Wait()
	follows, waits := make(map[int]bool), make(map[call.Key]bool)
	for _, k := range d.clients {
		d.check(k)
		switch {
		case k.done:
		case k.answered:
			follows[heardOf(k)] = true
		default:
			waits[k.call.Joining.Key] = true
		}
	}
	flying := make(map[call.Key]bool)
	for _, u := range d.upstreams() {
		f, key := d.of(u), u.call.Joining.Key
		switch {
		case f.begun && u.w != nil && u.w.Context().Err() == nil && !follows[u.id]:
			d.t.Errorf("upstream call %d goes on for nobody", u.id)
		case !f.begun && u.ctx.Err() == nil:
			flying[key] = true
			if len(waits) == 0 {
				d.t.Errorf("upstream call %d is waited for by nobody", u.id)
			}
		}
	}
	for _, k := range d.clients {
		j := k.call.Joining
		if !k.answered && !k.done && !flying[j.Key] && (j.Native == nil || !flying[*j.Native]) {
			d.t.Errorf("a client waits for nothing")
		}
	}
}

// heardOf is the upstream call of which a client has heard; -1: none.
func heardOf(k *client) int {
	id := -1
	fmt.Sscanf(k.heard.String(), "%d:", &id)
	return id
}

// check compares what a client has heard with what was said.
func (d *drama) check(k *client) {
	d.t.Helper()
	id := heardOf(k)
	if id < 0 {
		// A short limit can have it cut before it has read at all.
		if k.answered && k.err == nil || errors.Is(k.err, io.EOF) {
			d.t.Error("a client was answered and has heard nothing")
		}
		return
	}
	u := d.upstreams()[id]
	f, j := d.of(u), k.call.Joining
	if key := u.call.Joining.Key; key != j.Key && (j.Native == nil || key != *j.Native) {
		d.t.Errorf("a client hears the answer to %q", key[:])
	}
	all := strings.Join(f.frames, "")
	heard := k.heard.String()
	var end *recording.EndError
	switch {
	case !strings.HasPrefix(all, heard):
		d.t.Errorf("heard %q of %q", heard, all)
	case k.err == nil, errors.Is(k.err, errLeft):
	case errors.Is(k.err, io.EOF):
		if !f.complete || heard != all {
			d.t.Errorf("heard %q of %q, complete %v, as if it were all", heard, all, f.complete)
		}
	case errors.As(k.err, &end):
		if !f.broken || heard != all || !errors.Is(end, errBoom) {
			d.t.Errorf("heard %q of %q, broken %v, to the end %v", heard, all, f.broken, end)
		}
	case errors.Is(k.err, recording.ErrSlow) && d.limit > 0:
	default:
		d.t.Errorf("ended with %v", k.err)
	}
}

// finish has the nodes answer whatever is still asked, until all clients have their end.
func (d *drama) finish() {
	for range 2 * len(d.clients) { // more rounds than it can take
		d.look()
		if !slices.ContainsFunc(d.clients, func(k *client) bool { return !k.done }) {
			break
		}
		for _, u := range d.upstreams() {
			if f := d.of(u); !f.begun {
				d.begin(u, f)
			}
		}
		d.look()
		for _, u := range d.upstreams() {
			d.completes(u, d.of(u))
		}
	}
	for i, k := range d.clients {
		if !k.done {
			d.t.Errorf("client %d hangs", i)
			k.leave()
		}
	}
	if n := d.flights.Running(); n != 0 {
		d.t.Errorf("%d flights in the table", n)
	}
}
