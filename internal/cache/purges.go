package cache

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// scopeLimit bounds the scopes whose versions are remembered, each some 150 bytes here and
	// in Redis.
	scopeLimit = 100_000
	// versionLimit is the greatest version that is taken from Redis: Lua's numbers are exact up
	// to there.
	versionLimit = 1 << 53
	// noBase stands for the base of what Redis was told before. No version is so great.
	noBase = 2 * versionLimit
	// currentFor is how long what was learned of others' purges is good for.
	currentFor = 2 * time.Second
)

// A Scope is all answers that have something in common, and are purged together.
type Scope string

func scopeAll() Scope                      { return "all" }
func scopeModel(key string) Scope          { return scopeOf("model", key) }
func scopeIdentity(identity string) Scope  { return scopeOf("identity", identity) }
func scopeTenant(tenant string) Scope      { return scopeOf("tenant", tenant) }
func scopeTag(tag string) Scope            { return scopeOf("tag", tag) }
func scopeOf(kind string, of string) Scope { return Scope(kind + "\x00" + of) }

// scopeKey is the one answer whose key has a name; that is one for Redis as it is.
func scopeKey(name string) Scope { return Scope(keyScope + name) }

const keyScope = "key\x00"

// purges holds a version for each scope that was ever purged. A purge is a new version, in no time
// however many answers there are: each answer carries the versions of its scopes as they were
// before it was asked for, and is good while they are the same.
//
// What one gateway purges all obey: versions go to Redis and come from there (purges_sync.go). The
// greater one of a scope holds, so it does not matter in which order they come. But clocks differ:
// a purge that meets another it did not know of rises above both, for answers may have been made in
// between that carry the greater one. Safe for concurrent use.
type purges struct {
	sealer *Sealer
	told   func()        // called when others have purged something; nil: nobody wants to know
	all    string        // name of scopeAll
	any    atomic.Bool   // something was purged
	stirs  chan struct{} // wakes run; one is as good as many

	born   time.Time
	synced atomic.Int64 // when a sync that succeeded began, as time since born; 0: never

	syncing sync.Mutex // one at a time; guards seen
	seen    string     // mark of the state in Redis that is known here; "": read it

	mu       sync.RWMutex // guards what follows
	versions map[string]uint64
	bumps    map[string]bump   // versions made here that Redis has not been told yet
	repeats  map[string]uint64 // versions that it was told, but does not have any more
	epoch    uint64            // how often everything was forgotten
	forget   bool              // Redis is to forget, too

	limit int              // of versions
	now   func() time.Time // tests have clocks that differ
	names names
}

// A bump is a version that Redis has not been told yet.
type bump struct {
	version uint64
	base    uint64 // what Redis had then, as far as it is known here
}

func newPurges(s *Sealer) *purges {
	p := &purges{
		sealer: s, stirs: make(chan struct{}, 1), born: time.Now(), limit: scopeLimit, now: time.Now,
		versions: make(map[string]uint64), bumps: make(map[string]bump), repeats: make(map[string]uint64),
	}
	p.all = p.nameOf(scopeAll())
	return p
}

// marks are the versions of the scopes as they are now, 0 of those that were never purged.
func (p *purges) marks(scopes []Scope) []uint64 {
	marks := make([]uint64, len(scopes))
	if !p.any.Load() {
		return marks
	}
	names := p.namesOf(scopes)
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i, name := range names {
		marks[i] = p.versions[name]
	}
	return marks
}

// valid tells whether marks are still those of the scopes.
func (p *purges) valid(scopes []Scope, marks []uint64) bool {
	if len(marks) != len(scopes) {
		return false
	}
	if !p.any.Load() {
		for _, m := range marks {
			if m != 0 { // of a purge that is not known here
				return false
			}
		}
		return true
	}
	names := p.namesOf(scopes)
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i, name := range names {
		if marks[i] != p.versions[name] {
			return false
		}
	}
	return true
}

// bump makes all answers of the scope invalid that there are, here at once and elsewhere when
// Redis has been told. It returns the version that the scope has now.
func (p *purges) bump(s Scope) uint64 {
	name := p.nameOf(s)
	p.mu.Lock()
	v := p.riseLocked(name)
	if len(p.versions) > p.limit {
		v = p.forgetLocked()
	}
	p.mu.Unlock()
	p.stir()
	return v
}

// pending counts the purges that other gateways cannot know of yet.
func (p *purges) pending() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := len(p.bumps) + len(p.repeats)
	if p.forget {
		n++
	}
	return n
}

// current tells whether the purges of others are known, up to two seconds ago at worst. If not,
// what they left in the second tier is not to be used.
func (p *purges) current() bool {
	synced := time.Duration(p.synced.Load())
	return synced != 0 && time.Since(p.born)-synced < currentFor
}

// riseLocked gives the scope a version that it never had. Starting from the clock, that holds also
// for a gateway that has forgotten, or never knew, what the scope had before.
func (p *purges) riseLocked(name string) uint64 {
	before := p.versions[name]
	v := max(before+1, uint64(p.now().UnixMilli()))
	base := before
	if b, ok := p.bumps[name]; ok {
		base = b.base
	}
	p.versions[name], p.bumps[name] = v, bump{v, base}
	delete(p.repeats, name)
	p.any.Store(true)
	return v
}

// forgetLocked drops all versions. Everything is invalid by a rise of scopeAll instead: a scope
// that is dropped has version 0 again, as answers from before its purge have it in their marks.
func (p *purges) forgetLocked() uint64 {
	before := p.versions[p.all]
	clear(p.versions)
	clear(p.bumps)
	clear(p.repeats)
	p.versions[p.all] = before
	p.forget = true
	return p.riseLocked(p.all)
}

// merge takes over what Redis has, and tells of it if that is news.
func (p *purges) merge(theirs map[string]uint64, epoch uint64) {
	p.mu.Lock()
	news := p.mergeLocked(theirs, epoch)
	p.mu.Unlock()
	if news && p.told != nil {
		p.told()
	}
}

// mergeLocked takes over the greater version of each scope. What is missing there, as after a
// flush, is to be pushed again. news tells that a version has risen here.
func (p *purges) mergeLocked(theirs map[string]uint64, epoch uint64) (news bool) {
	if epoch > p.epoch {
		p.dropLocked(theirs, epoch)
		news = true
	}
	for name, v := range theirs {
		ours := p.versions[name]
		b, untold := p.bumps[name]
		switch {
		case !untold && v > ours:
			p.versions[name] = v
			p.any.Store(true)
			news = true
		case !untold && v < ours, untold && v != b.base:
			// Neither purge knew of the other. The greater one need not be the later one.
			p.versions[name] = max(v, ours)
			p.bumps[name] = bump{base: v}
			p.riseLocked(name)
			news = true
		}
	}
	clear(p.repeats)
	for name, v := range p.versions {
		if _, untold := p.bumps[name]; !untold && theirs[name] == 0 {
			p.repeats[name] = v
		}
	}
	if len(p.versions) > p.limit {
		p.forgetLocked()
		p.stir()
	}
	return news
}

// dropLocked forgets, because somebody did: this gateway would push all of it again otherwise.
// What Redis was not told is from after that, for all Redis knows.
func (p *purges) dropLocked(theirs map[string]uint64, epoch uint64) {
	p.epoch = epoch
	before := p.versions[p.all]
	p.versions = map[string]uint64{p.all: before}
	for name, b := range p.bumps {
		p.versions[name] = b.version
	}
	if theirs[p.all] <= before && before != 0 {
		p.riseLocked(p.all) // that is of another Redis, or somebody tampered
	}
}

// forgotten is called when Redis has forgotten, which gave scopeAll a version above that here.
func (p *purges) forgotten(all, epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget, p.epoch = false, max(p.epoch, epoch)
	if p.versions[p.all] >= all {
		p.riseLocked(p.all) // it rose meanwhile, but what was dropped may have come after that
		return
	}
	p.versions[p.all] = all
	delete(p.bumps, p.all)
}

// batch is some of what is to be pushed, at most n. What was told before has no base.
func (p *purges) batch(n int) (batch map[string]bump, epoch uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	batch = make(map[string]bump)
	for name, b := range p.bumps {
		if len(batch) == n {
			break
		}
		batch[name] = b
	}
	for name, v := range p.repeats {
		if len(batch) == n {
			break
		}
		batch[name] = bump{v, noBase}
	}
	return batch, p.epoch
}

// pushed is called when Redis has been told of the batch.
func (p *purges) pushed(batch map[string]bump) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, told := range batch {
		if p.repeats[name] == told.version {
			delete(p.repeats, name)
		}
		if now, ok := p.bumps[name]; ok && now == told {
			delete(p.bumps, name)
		} else if ok { // it rose meanwhile
			p.bumps[name] = bump{now.version, told.version}
		}
	}
}

// forgets tells the version of scopeAll that Redis is to exceed if it is to forget.
func (p *purges) forgets() (all, epoch uint64, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.versions[p.all], p.epoch, p.forget
}

// stir has run sync at once. It never blocks.
func (p *purges) stir() {
	select {
	case p.stirs <- struct{}{}:
	default:
	}
}

func (p *purges) namesOf(scopes []Scope) []string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = p.nameOf(s)
	}
	return names
}

// nameOf is what a scope is called in Redis, and so here too: what others purge comes by name.
func (p *purges) nameOf(s Scope) string {
	if name, ok := strings.CutPrefix(string(s), keyScope); ok {
		return name
	}
	return p.names.of(s, func() string { return p.sealer.Name("scope", string(s)) })
}

// names remembers names of scopes: the same few models and tenants are in all answers, and a
// name costs more than the rest of a hit's check. The zero value is empty.
type names struct {
	mu    sync.RWMutex // guards what follows
	known map[Scope]string
}

// namesLimit bounds the names that are remembered, some 150 bytes each.
const namesLimit = 4096

func (n *names) of(s Scope, compute func() string) string {
	n.mu.RLock()
	name, ok := n.known[s]
	n.mu.RUnlock()
	if ok {
		return name
	}
	name = compute()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= namesLimit {
		n.known = make(map[Scope]string)
	}
	n.known[s] = name
	return name
}

// flatten lists a batch as pushScript takes it: name, version, base, name, version, base.
func flatten(batch map[string]bump) []any {
	flat := make([]any, 0, 3*len(batch))
	for name, b := range batch {
		flat = append(flat, name, b.version, b.base)
	}
	return flat
}
