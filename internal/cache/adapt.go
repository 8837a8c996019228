package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// classAdaptive is the class in metrics of answers whose TTL was estimated.
const classAdaptive = "adaptive"

// adapt has the TTL of a verdict follow the changes of the answer, where they can be seen: an
// embedding has none, and those of a sampled answer are told by a source or not at all.
func (f *Facts) adapt(v *call.Verdict, a *call.Adaptive) {
	if a.SourceHeader != "" {
		v.Source = digest(strings.TrimSpace(strings.Join(f.Header.Values(a.SourceHeader), ",")))
	}
	switch v.Class {
	case classDeterministic:
	case classSampled:
		if v.Source == 0 && !(a.SourceTags && f.Tagged) {
			return
		}
	default:
		return
	}
	v.Adaptive, v.TTL = a, a.Max
}

// digest is 0 for the empty text, and for others it is not.
func digest[T string | []byte](text T) uint64 {
	if len(text) == 0 {
		return 0
	}
	sum := sha256.Sum256([]byte(text))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// outdated tells of an answer that it was made from another version of its source than the client
// knows of. nil is of an answer that has none.
func (p *Past) outdated(source uint64) bool {
	return p != nil && source != 0 && p.Source != 0 && p.Source != source
}

// outlast is for how long after its time an answer may be of use, where it may be given for so long.
func (m *Meta) outlast(given time.Duration) time.Duration {
	if m.Past == nil {
		return given
	}
	return max(given, m.Past.Keep)
}

// compareWith notes which answer the coming one takes the place of, nil if none.
func (k *keeping) compareWith(e *Entry) {
	if e == nil || e.Meta.Past == nil {
		return
	}
	switch m := &e.Meta; {
	case k.tiers.valid(m):
		k.before = m
	case k.tiers.told(m):
		k.before, k.told = m, true
	}
}

// adapt gives a complete answer the TTL that its past suggests.
func (k *keeping) adapt() {
	v := k.call.Caching.Verdict
	if result := k.opts.succeed(&k.meta, k.before, k.told, v, Past{Said: k.said()}, rand.Float64()); result != "" {
		k.Watch.CacheRefreshed(result)
	}
}

// succeed completes what is known of an answer, whose TTL so far is the longest that it may have,
// and gives the result of the comparison with the one before; "" if it does not count. before is nil
// if there is none; told says that it was purged because it has changed. rnd is as in Life.
func (o *Options) succeed(m, before *Meta, told bool, v call.Verdict, past Past, rnd float64) string {
	past.Source, past.Keep = v.Source, v.Adaptive.Max
	s := succession{Adaptive: v.Adaptive, told: told, after: past}
	if before != nil {
		s.before, s.lasted, s.life = before.Past, m.Stored.Sub(before.Stored), before.TTL
	}
	past, life, result := s.next()
	m.Past = &past
	m.TTL = min(m.TTL, o.jittered(min(max(life, o.Min), v.TTL), rnd))
	return result
}

// said is a digest of what the answer says.
func (k *keeping) said() uint64 {
	single := k.answer.Object
	if single == nil {
		route := k.call.Request.Route
		var err error
		if _, single, err = wire.Fold(route.Dialect, route.Operation, k.answer.data()); err != nil {
			return 0 // it is worth to be stored, so it is not so
		}
	}
	return digest(wire.Spoken(nil, single))
}

// A succession is an answer that takes the place of another one.
type succession struct {
	*call.Adaptive
	before *Past         // of the other one; nil: there is none
	lasted time.Duration // from that to this one
	life   time.Duration // TTL of that one
	told   bool          // that one was purged because it has changed
	after  Past          // of this one, of which only the digests are known
}

// next gives the past and the TTL of the answer, and what came of the comparison; "" if it does not
// count.
func (s *succession) next() (p Past, life time.Duration, result string) {
	p = s.after
	if s.before == nil {
		return p, p.life(s.Adaptive, 0), ""
	}
	p.Seen, p.Changed, p.Watched = s.before.Seen, s.before.Changed, s.before.Watched
	versions := s.before.Source != 0 && s.after.Source != 0
	changed := s.before.Said != s.after.Said
	switch {
	case s.SourceTags:
		changed = s.told
	case versions:
		changed = s.before.Source != s.after.Source
	}
	switch {
	case s.told && !s.SourceTags, // the TTL is about changes that nobody tells of
		// A client that has it made anew at once shows nothing of what time does.
		s.lasted < s.life/2 && !(changed && (versions || s.SourceTags)):
		return p, min(p.life(s.Adaptive, s.life), max(s.life, s.Min)), ""
	}
	p = p.add(changed, s.lasted)
	result = RefreshEqual
	if changed {
		result = RefreshChanged
		if !versions && !s.SourceTags && p.doubtful(s.Adaptive, s.life) {
			result = RefreshDoubtful
		}
	}
	return p, p.life(s.Adaptive, s.life), result
}

// doubtful tells of an answer that has differed from the one before whether that says anything,
// where that one had the TTL life.
func (p *Past) doubtful(a *call.Adaptive, life time.Duration) bool {
	return p.Seen >= doubtfulSeen && life <= doubtfulFloor*a.Min && float64(p.Changed) >= doubtfulShare*float64(p.Seen)
}

// into writes down what a TTL rests on, if it rests on a past.
func (p *Past) into(r *call.CacheResult) {
	if p != nil {
		r.Adaptive, r.Seen, r.Changed = true, p.Seen, p.Changed
	}
}

// Reason says what a TTL comes from: rule, client, built-in, or adaptive with the refreshes that
// were compared and those that differed.
func Reason(r *call.CacheResult) string {
	switch {
	case r.Adaptive:
		return fmt.Sprintf("adaptive %d/%d", r.Seen, r.Changed)
	case r.Rule == "client":
		return "client"
	case strings.HasPrefix(r.Rule, "built-in"):
		return "built-in"
	}
	return "rule"
}
