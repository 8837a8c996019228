package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// A poll is one of the things that nodes are asked again and again.
type poll uint8

const (
	check   poll = iota // /api/version: whether it lives
	tags                // /api/tags: its models
	ps                  // /api/ps: its runners
	polls               // how many there are
	nothing = polls
)

// soon is the time between checks while a state is about to change, and the least between
// polls that traffic asks for, so that a thousand failed calls are not a thousand polls.
const soon = time.Second

// What a node's answers may weigh.
const (
	versionLimit = 64 << 10
	// versionLength is far more than any version has: it is shown in many places.
	versionLength = 64

	tagsLimit = 16 << 20
	psLimit   = 4 << 20
	showLimit = 8 << 20
)

// A poller asks one node, in one goroutine, one thing at a time.
type poller struct {
	fleet *Fleet
	node  *Node
	opts  *Options         // last seen
	begun [polls]time.Time // last
	next  [polls]time.Time
	doubt bool // the last check failed: nothing else is asked before one is passed
}

// run polls until ctx ends.
func (p *poller) run(ctx context.Context) {
	defer p.dismiss()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.node.wake:
		}
		p.reschedule()
		p.round(ctx)
		if ctx.Err() != nil {
			return
		}
		timer.Reset(time.Until(p.due()))
	}
}

// reschedule obeys new options and what traffic has wanted meanwhile.
func (p *poller) reschedule() {
	opts := p.fleet.opts.Load()
	now := time.Now()
	if p.opts != nil && p.opts != opts {
		for k := range polls {
			p.sooner(k, now.Add(jitter(interval(opts, k))))
		}
	}
	p.opts = opts

	n := p.node
	n.mu.Lock()
	wanted := n.wanted
	var looked [polls]bool
	for k := range n.lookers {
		looked[k] = len(n.lookers[k]) > 0
	}
	n.wanted = [polls]bool{}
	n.mu.Unlock()
	for k, w := range wanted {
		if w {
			p.sooner(poll(k), p.begun[k].Add(p.soon()))
		}
	}
	for k, l := range looked {
		if l {
			p.sooner(poll(k), now)
		}
	}
}

func (p *poller) sooner(k poll, t time.Time) {
	if t.Before(p.next[k]) {
		p.next[k] = t
	}
}

// due is when the next round begins.
func (p *poller) due() time.Time {
	t := p.next[check]
	if p.doubt || !p.node.facts.Load().state.Alive() {
		return t
	}
	for k := range polls {
		if p.next[k].Before(t) {
			t = p.next[k]
		}
	}
	return t
}

// round makes the polls that are due. A node that is down is only checked; when it has passed
// often enough it shows its models and runners before it comes up, so that it never is up
// with an old inventory.
func (p *poller) round(ctx context.Context) {
	f, n := p.fleet, p.node
	rising := false
	if !time.Now().Before(p.next[check]) {
		begun := p.begin(check)
		asked := time.Now()
		version, err := p.version(ctx)
		if ctx.Err() == nil { // else it was ours to end
			f.checked(n, err, time.Since(asked))
		}
		if p.doubt = err != nil; p.doubt {
			p.fail(ctx, check, err, begun)
			return
		}
		var c change
		rising, c = n.passed(p.opts)
		f.tell(c)
		changed := n.versionIs(version)
		if changed {
			// Another server program: perhaps with other models, certainly with other runners.
			p.next[tags], p.next[ps] = time.Time{}, time.Time{}
		}
		p.again(check)
		if changed && !rising {
			f.publish()
		}
	}
	if p.doubt || !rising && !n.facts.Load().state.Alive() {
		return
	}

	if rising || !time.Now().Before(p.next[tags]) {
		lookers := n.takeLookers(tags)
		begun := p.begin(tags)
		got, err := p.tags(ctx)
		if err == nil {
			if n.listed(got) && !rising {
				f.publish()
			}
			p.again(tags)
		}
		for _, done := range lookers {
			done()
		}
		if err != nil {
			p.fail(ctx, tags, err, begun)
			return
		}
		f.identifyFailed()
	}
	if rising || !time.Now().Before(p.next[ps]) {
		lookers := n.takeLookers(ps)
		begun := p.begin(ps)
		got, err := p.ps(ctx)
		if err == nil {
			if n.running(got, begun) && !rising {
				f.publish()
			}
			p.again(ps)
		}
		for _, done := range lookers {
			done()
		}
		if err != nil {
			p.fail(ctx, ps, err, begun)
			return
		}
	}
	if rising {
		f.rise(n)
	}
}

// begin stamps the start of a poll.
func (p *poller) begin(k poll) time.Duration {
	p.begun[k] = time.Now()
	return p.fleet.since()
}

// again sets the time of the next poll after one that was answered.
func (p *poller) again(k poll) {
	now := time.Now()
	p.next[k] = now.Add(jitter(interval(p.opts, k)))
	p.node.mu.Lock()
	if k == tags {
		for _, m := range p.node.missing {
			if now.Before(m.until) {
				p.sooner(tags, m.until) // it is believed again then
			}
		}
	}
	p.node.fails[k] = 0
	c := p.node.settleLocked(p.opts)
	changing, up := p.node.changingLocked(), p.node.health.up
	p.node.mu.Unlock()
	p.fleet.tell(c)
	if k == check && changing {
		wait := p.soon()
		if !up {
			wait /= 2 // it answers: the sooner it is sure, the sooner it is used
		}
		p.next[k] = now.Add(wait)
	}
}

// fail sets the time of the next poll after one that was not answered, and counts it.
func (p *poller) fail(ctx context.Context, k poll, err error, begun time.Duration) {
	if ctx.Err() != nil {
		return // it was ours to end
	}
	p.fleet.failed(p.node, k, err, begun)
	now := time.Now()
	wait := jitter(p.opts.Interval)
	switch {
	case p.node.facts.Load().state.Alive():
		wait = p.soon()
	case !answers(err):
		// Whatever comes back there is wanted soon, and a dial costs little.
		wait = jitter(p.soon())
	}
	p.next[check] = now.Add(wait)
	p.next[k] = now.Add(wait)
}

// changingLocked tells whether one or a few checks more would change the state.
func (n *Node) changingLocked() bool {
	h := &n.health
	return n.fails != [polls]int{} || !h.up && n.passes > 0 || h.ejection.dials
}

func (p *poller) soon() time.Duration { return min(soon, p.opts.Interval) }

// dismiss lets nobody wait for a node that is gone.
func (p *poller) dismiss() {
	for k := range polls {
		for _, done := range p.node.takeLookers(k) {
			done()
		}
	}
}

func (n *Node) takeLookers(k poll) []func() {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lookers[k]
	n.lookers[k] = nil
	return l
}

func interval(o *Options, k poll) time.Duration {
	return [polls]time.Duration{check: o.Interval, tags: o.TagsInterval, ps: o.PsInterval}[k]
}

// jitter is d give or take a tenth, so that the polls of many gateways do not fall together.
func jitter(d time.Duration) time.Duration {
	tenth := int64(d / 10)
	return d + time.Duration(rand.Int64N(2*tenth+1)-tenth)
}

func (p *poller) version(ctx context.Context) (string, error) {
	body, err := p.node.ask(ctx, p.opts.Timeout, http.MethodGet, "/api/version", nil, versionLimit)
	if err != nil {
		return "", err
	}
	var v struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(body, &v) != nil || v.Version == "" || len(v.Version) > versionLength {
		return "", errNotOllama
	}
	return v.Version, nil
}

func (p *poller) tags(ctx context.Context) (*inventory, error) {
	body, err := p.node.ask(ctx, p.opts.Timeout, http.MethodGet, "/api/tags", nil, tagsLimit)
	if err != nil {
		return nil, err
	}
	return parseTags(body)
}

func (p *poller) ps(ctx context.Context) ([]Runner, error) {
	body, err := p.node.ask(ctx, p.opts.Timeout, http.MethodGet, "/api/ps", nil, psLimit)
	if err != nil {
		return nil, err
	}
	return parsePs(body)
}

// versionIs takes over the version and tells whether it is another one.
func (n *Node) versionIs(version string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.facts.Load().version == version {
		return false
	}
	n.setLocked(func(x *facts) { x.version = version })
	return true
}

// ask sends one request and reads its whole answer, limit bytes at most, within timeout.
// Redirects are faults like every status but 200: the transport follows none.
func (n *Node) ask(ctx context.Context, timeout time.Duration, method, path string, body []byte, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	u := *n.url
	u.Path = path
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }() // all that was needed of it has been read
	if resp.StatusCode != http.StatusOK {
		// A few bytes more keep the connection usable.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		return nil, statusFault(resp.StatusCode)
	}
	got, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(got)) > limit {
		return nil, errTooLarge
	}
	return got, nil
}
