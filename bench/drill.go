package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A drill is a fault of one node of four under load, with what must come of it.
type drill struct {
	name   string
	about  string
	faults []string      // of the node, in the words of simnode.ParseFault; none: it is killed
	lead   time.Duration // before the fault
	lasts  time.Duration // the fault
	after  time.Duration // until the last arrival
	goals  []drillGoal
}

// kills tells whether the node's process ends and another one comes in its place.
func (d drill) kills() bool { return len(d.faults) == 0 }

// A drillGoal is a limit that the gateway must keep.
type drillGoal struct {
	row    int
	figure string
	spell  func(v float64) string
	value  func(ours, theirs *drillSample) float64
	must   float64 // the most it may be
	below  bool    // it must be less
}

func (g drillGoal) kept(v float64) bool { return v < g.must || !g.below && v == g.must }

// drills are all there are. The fault of a slow node lasts longest, because what matters is
// what comes after the few answers that show it.
func drills() []drill {
	const second = time.Second
	return []drill{
		{
			name: "fault-kill", about: "One of four nodes is killed, and its port refuses; then a new process is there",
			lead: 3 * second, lasts: 5 * second, after: 5 * second,
			goals: []drillGoal{noneFails(14, "failed, but for streams on the killed node"), brokenAreTold(), backSoon()},
		},
		{
			name: "fault-hang", about: "One of four nodes accepts and never answers, neither checks nor calls",
			faults: []string{"never,path=*", "deaf"},
			lead:   3 * second, lasts: 6 * second, after: 3 * second,
			goals: []drillGoal{noneFails(15, "failed"), firstWithin(1500), backSoon()},
		},
		{
			name: "fault-error-500", about: "One of four nodes answers its calls with 500 at once, and its checks in order",
			faults: []string{"status=500"},
			lead:   3 * second, lasts: 6 * second, after: 3 * second,
			goals: []drillGoal{noneFails(14, "failed"), backSoon()},
		},
		{
			name: "fault-error-503", about: "One of four nodes answers its calls with 503 at once, and its checks in order",
			faults: []string{"status=503"},
			lead:   3 * second, lasts: 6 * second, after: 3 * second,
			goals: []drillGoal{noneFails(14, "failed")},
		},
		{
			name: "fault-slow", about: "One of four nodes is 20 times slower",
			faults: []string{"slow=20"},
			lead:   3 * second, lasts: 12 * second, after: 3 * second,
			goals: []drillGoal{noneFails(16, "failed"), firstRatio(0.5)},
		},
	}
}

func noneFails(row int, figure string) drillGoal {
	return drillGoal{
		row: row, figure: figure, spell: whole,
		value: func(s, _ *drillSample) float64 { return float64(s.inexcusable) },
	}
}

func brokenAreTold() drillGoal {
	return drillGoal{
		row: 14, figure: "broken streams without an error record", spell: whole,
		value: func(s, _ *drillSample) float64 { return float64(s.ends[cut]) },
	}
}

func backSoon() drillGoal {
	return drillGoal{
		row: 17, figure: "back in use after its return, s", spell: number, must: 2, below: true,
		value: func(s, _ *drillSample) float64 { return s.back.Seconds() },
	}
}

func firstWithin(ms float64) drillGoal {
	return drillGoal{
		row: 15, figure: "TTFT p99 ms", spell: number, must: ms, below: true,
		value: func(s, _ *drillSample) float64 { return millis(percentile(s.firsts, 0.99)) },
	}
}

func firstRatio(most float64) drillGoal {
	return drillGoal{
		row: 16, figure: "TTFT p99, ratio to caddy", spell: ratio, must: most,
		value: func(s, theirs *drillSample) float64 {
			return float64(percentile(s.firsts, 0.99)) / float64(percentile(theirs.firsts, 0.99))
		},
	}
}

// A drillSample is what one drill on one peer has shown.
type drillSample struct {
	requests    int
	ends        [cut + 1]int    // by their ending
	inexcusable int             // failures that are not those of streams on a node that died
	firsts      []time.Duration // sorted: of answers to questions that were asked during the fault
	back        time.Duration   // from the fault's end to the node's next chat; never, if that is not within the drill
	usual       time.Duration   // median of the time to the first record before the fault
	fault       error           // the first of the inexcusable ones
	busy        float64         // share of all cores, by whomever
}

func (s *drillSample) failed() int { return s.ends[refused] + s.ends[told] + s.ends[cut] }

// never is a time that is longer than any drill.
const never = time.Hour

// fleetRate is the chats a second that keep a share of all slots busy.
func fleetRate(share float64) float64 {
	one := drillFirstToken.Seconds() + drillCrowding*float64(leastTokens+mostTokens-2)/2/drillTokenRate
	return share * nodeCount * drillSlots / one
}

// drillShare is the load, as a share of what four nodes can do: three have 93 % then.
const drillShare = 0.7

// drillSetup has nodes that can be broken, and one proxy.
func drillSetup(proxy string) setup {
	return setup{
		node: []string{"-simnode"}, proxies: []string{proxy}, config: drillCaddyfile, slots: drillSlots,
		answers: func(c *client) error {
			_, _, err := c.askQuestion(question{tokens: 1})
			return err
		},
	}
}

// drill holds a drill with processes of its own: what a proxy has learned of the nodes in one
// must not help it in the next.
func (b *bench) drill(ctx context.Context, d drill, proxy string) (s *drillSample, err error) {
	fmt.Fprintf(b.progress, "%s, %s\n", d.name, proxy)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause // says more than the failure it has led to
		}
	}()
	f, err := startFleet(ctx, b.binary, b.dir, drillSetup(proxy), cancel)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	broken := make(chan brokenNode, 1)
	busyBefore, err := busyTime()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	go func() { broken <- f.breakOne(ctx, d, begun) }() // ends with the drill's last arrival
	all := arrivals(ctx, f.peers[1], fleetRate(drillShare), d.lead+d.lasts+d.after, &b.nonce)
	node := <-broken
	if node.err != nil {
		return nil, node.err
	}
	lasted := time.Since(begun)
	busyAfter, err := busyTime()
	if err != nil {
		return nil, err
	}
	s = d.judge(all, node.struck)
	s.back = node.back
	s.busy = share(busyAfter-busyBefore, lasted)
	return s, nil
}

// A brokenNode is what became of the node.
type brokenNode struct {
	struck time.Duration // since the load began: the fault was there
	back   time.Duration // as in drillSample
	err    error
}

// breakOne brings the fault over the second node when it is time to, and waits for the first
// chat that the node is asked for behind it.
func (f *fleet) breakOne(ctx context.Context, d drill, begun time.Time) (out brokenNode) {
	const i = 1
	addr := f.peers[0].addrs[i]
	if err := sleepUntil(ctx, begun.Add(d.lead)); err != nil {
		return brokenNode{err: err}
	}
	var err error
	if d.kills() {
		err = f.running[i].kill()
	} else {
		err = breakNode(addr, d.lasts, d.faults...)
	}
	out.struck = time.Since(begun)
	if err = cmp.Or(err, sleepUntil(ctx, begun.Add(d.lead+d.lasts))); err != nil {
		return brokenNode{err: err}
	}
	if d.kills() {
		if _, _, err := f.startNode(i, addr); err != nil {
			return brokenNode{err: err}
		}
	}
	ended := time.Now()
	if !d.kills() {
		if err := sleepUntil(ctx, ended.Add(stragglers)); err != nil {
			return brokenNode{err: err}
		}
	}
	out.back, out.err = awaitChat(ctx, addr, ended, begun.Add(d.lead+d.lasts+d.after))
	return out
}

// stragglers is how long a node that hung reads requests that nobody waits for any more: they
// do not show that it is used again.
const stragglers = 200 * time.Millisecond

// awaitChat waits until a node that has been well since ended is asked for a chat, and gives
// how long that took; never, if it is not asked until then.
func awaitChat(ctx context.Context, addr string, ended, until time.Time) (time.Duration, error) {
	before, err := chatsOf(addr)
	for err == nil {
		var chats int
		if chats, err = chatsOf(addr); err == nil && chats > before {
			return time.Since(ended), nil
		}
		if time.Now().After(until) {
			return never, err
		}
		err = errors.Join(err, sleepUntil(ctx, time.Now().Add(20*time.Millisecond)))
	}
	return 0, err
}

func sleepUntil(ctx context.Context, at time.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(at)):
		return nil
	}
}

// judge says what the arrivals of a drill have shown whose fault was there at struck.
func (d drill) judge(all []arrival, struck time.Duration) *drillSample {
	s := &drillSample{requests: len(all)}
	var before []time.Duration
	onDead := 0
	for _, a := range all {
		s.ends[a.end]++
		switch {
		case a.end == answered:
		case d.kills() && a.at < struck && d.lead <= a.at+a.took && a.end != refused && onDead < drillSlots:
			onDead++ // it ran when the node was killed, perhaps there
		default:
			s.inexcusable++
			if s.fault == nil {
				s.fault = a.err
			}
		}
		switch {
		case a.end != answered:
		case a.at < d.lead:
			before = append(before, a.first)
		case a.at < d.lead+d.lasts:
			s.firsts = append(s.firsts, a.first)
		}
	}
	slices.Sort(s.firsts)
	slices.Sort(before)
	s.usual = percentile(before, 0.5)
	return s
}
