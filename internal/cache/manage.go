package cache

import (
	"context"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// Scopes of tenants, by how they are told apart. What follows the colon names one.
const (
	TenantKey        = "key:"
	TenantUser       = "user:"
	TenantHeader     = "header:"
	TenantCredential = "credential:"
	TenantAnonymous  = "anonymous:"
	TenantShared     = "shared"
)

// A Target is what to purge. One field is set.
type Target struct {
	All        bool
	Tag        string
	Model      string   // key of a name
	Identities []string // of that model
	Tenant     string   // name of a key or user, value of the tenant's header, or "shared"
	Key        string   // name of an answer's key, as it is in logs
}

// A Purged is what came of a purge.
type Purged struct {
	Memory  int  `json:"memory"`  // answers that were in memory
	Pending bool `json:"pending"` // the other gateways do not know yet: Redis could not be told
}

// scopes are those that an answer is in, in the order of its marks.
func (t *tiers) scopes(m *Meta) []Scope {
	scopes := make([]Scope, 0, ownScopes+len(m.Tags))
	scopes = append(scopes, scopeAll(), scopeModel(m.Model), scopeIdentity(m.Identity), scopeTenant(m.Tenant), scopeKey(t.sealer.KeyName(m.Key)))
	for _, tag := range m.Tags {
		scopes = append(scopes, scopeTag(tag))
	}
	return scopes
}

// ownScopes is how many scopes each answer is in, but for its tags.
const ownScopes = 5

// valid tells whether an answer has not been purged.
func (t *tiers) valid(m *Meta) bool {
	if !t.purges.any.Load() { // as it is nearly always: nobody needs to know the scopes
		return len(m.Marks) == ownScopes+len(m.Tags) && !slices.ContainsFunc(m.Marks, func(v uint64) bool { return v != 0 })
	}
	return t.purges.valid(t.scopes(m), m.Marks)
}

// unpurged are the marks of an answer while nothing has ever been purged.
var unpurged [ownScopes + tagsLimit]uint64

// told tells of an answer that it was purged by its key or a tag, and by nothing else: somebody
// says that this very answer has changed. What was seen of it before is good still, which it is not
// when all answers of a model or a tenant are to go.
func (t *tiers) told(m *Meta) bool {
	if m.Past == nil || len(m.Marks) != ownScopes+len(m.Tags) {
		return false
	}
	const named = ownScopes - 1 // the key's scope and those of tags come last
	now := t.marks(m)
	return slices.Equal(m.Marks[:named], now[:named]) && !slices.Equal(m.Marks[named:], now[named:])
}

// forget drops the answers for which which is true and tells how many. Of one that was told to have
// changed, and for which past is true, a husk stays.
func (t *tiers) forget(which, past func(*Meta) bool) int {
	var husks []*Entry
	n := t.memory.deleteFunc(func(m *Meta) bool {
		if !which(m) {
			return false
		}
		if !t.told(m) || !past(m) {
			return true
		}
		if m.Past.Said != 0 {
			husks = append(husks, husk(m))
		}
		return m.Past.Said != 0
	})
	for _, e := range husks {
		t.memory.put(e)
	}
	return n
}

// husk is what stays of an answer: its past, and nothing that anybody asked or was answered, nor a
// digest of that. Its answer has been purged, so it is never given.
func husk(m *Meta) *Entry {
	past := *m.Past
	past.Said = 0
	e := NewEntry(*m, Answer{})
	e.Meta.Past = &past
	return e
}

// marks are the versions that the scopes of an answer have now.
func (t *tiers) marks(m *Meta) []uint64 {
	if !t.purges.any.Load() {
		n := ownScopes + len(m.Tags)
		return unpurged[:n:n]
	}
	return t.purges.marks(t.scopes(m))
}

// scopes are those that a target names.
func (p *Target) scopes() []Scope {
	switch {
	case p.All:
		return []Scope{scopeAll()}
	case p.Tag != "":
		return []Scope{scopeTag(p.Tag)}
	case p.Key != "":
		return []Scope{scopeKey(p.Key)}
	case p.Tenant != "":
		scopes := []Scope{scopeTenant(TenantKey + p.Tenant), scopeTenant(TenantUser + p.Tenant), scopeTenant(TenantHeader + p.Tenant)}
		if p.Tenant == TenantShared {
			scopes = append(scopes, scopeTenant(TenantShared))
		}
		return scopes
	}
	scopes := []Scope{scopeModel(p.Model)}
	for _, identity := range p.Identities {
		scopes = append(scopes, scopeIdentity(identity))
	}
	return scopes
}

// Purge makes answers invalid, also those that are being generated now. ctx bounds the wait for
// the second tier.
func (c *Cache) Purge(ctx context.Context, p Target) (done Purged) {
	t := c.now.Load()
	if t == nil {
		return Purged{}
	}
	scopes := p.scopes()
	c.arrivals.settleAll() // so that they are counted
	for _, s := range scopes {
		t.purges.bump(s)
	}
	done.Memory = t.forget(func(m *Meta) bool {
		return slices.ContainsFunc(t.scopes(m), func(s Scope) bool { return slices.Contains(scopes, s) })
	}, func(*Meta) bool { return true })
	if t.client != nil {
		done.Pending = t.purges.sync(ctx, t.client) != nil
	}
	if p.Key != "" && t.shared != nil {
		_ = t.shared.deleteNamed(ctx, p.Key) // it is invalid there, too
	}
	return done
}

// Replaced makes the answers of identities invalid that a node has something else for now: it may
// have answered in the place of them since it was last asked what it has.
func (c *Cache) Replaced(identities []string) {
	t := c.now.Load()
	if t == nil {
		return
	}
	for _, identity := range identities {
		t.purges.bump(scopeIdentity(identity))
	}
}

// named finds an answer in memory by the name of its key.
func (t *tiers) named(name string) (found *Entry) {
	t.memory.each(func(e *Entry) bool {
		if t.sealer.KeyName(e.Meta.Key) == name {
			found = e
		}
		return found == nil
	})
	return found
}

// KeyName is the name of a key outside of this process; "" without a cache.
func (c *Cache) KeyName(k call.Key) string {
	if t := c.now.Load(); t != nil {
		return t.sealer.KeyName(k)
	}
	return ""
}

// Stats are what is in the cache now.
type Stats struct {
	On      bool   `json:"on"`
	Entries int    `json:"entries"` // in memory
	Bytes   int64  `json:"bytes"`
	Limit   int64  `json:"limit"` // of Bytes
	Redis   string `json:"redis"` // off, up or down
}

// Stats counts what is in memory.
func (c *Cache) Stats() Stats {
	t := c.now.Load()
	if t == nil {
		return Stats{Redis: "off"}
	}
	c.mu.Lock()
	s := Stats{On: c.wanted, Limit: c.opts.Memory, Redis: "off"}
	c.mu.Unlock()
	c.arrivals.settleAll()
	s.Entries, s.Bytes = t.memory.stats()
	if t.client != nil {
		if s.Redis = "down"; t.client.Up() {
			s.Redis = "up"
		}
	}
	return s
}

// An Inspected is what is known of one answer.
type Inspected struct {
	Key      string    `json:"key"`
	Backend  string    `json:"backend"`
	Route    string    `json:"route"`
	Model    string    `json:"model"`
	Identity string    `json:"identity"`
	Version  string    `json:"version"`
	Tags     []string  `json:"tags,omitempty"`
	Stored   time.Time `json:"stored"`
	Age      float64   `json:"age"`  // seconds
	TTL      float64   `json:"ttl"`  // seconds; -1: until it is evicted
	Left     float64   `json:"left"` // seconds; negative: it is over, or it never is
	Rule     string    `json:"rule"`
	Class    string    `json:"class"`
	Reason   string    `json:"reason"` // rule, client, built-in, or adaptive with what it rests on
	Purged   bool      `json:"purged"`
	Size     int       `json:"size"` // bytes in memory
	Tokens   int       `json:"tokens"`

	// What was asked, in its canonical form, and answered, frame by frame as it was recorded: for
	// who asks for the text of this one.
	Question string   `json:"question,omitempty"`
	Answer   []string `json:"answer,omitempty"`
}

// Inspect tells of an answer by the name of its key; false if there is none.
func (c *Cache) Inspect(ctx context.Context, name string, text bool) (*Inspected, bool) {
	t := c.now.Load()
	if t == nil {
		return nil, false
	}
	c.arrivals.settleAll()
	e, backend := t.named(name), Memory
	if e == nil && t.shared != nil {
		backend = Redis
		e, _ = t.shared.getNamed(ctx, name) // trouble is none found
	}
	if e == nil {
		return nil, false
	}
	m, now := &e.Meta, time.Now()
	r := call.CacheResult{Rule: m.Rule}
	m.Past.into(&r)
	i := &Inspected{
		Key: name, Backend: backend, Route: m.Route, Model: m.Model, Identity: m.Identity, Version: m.Version, Tags: m.Tags,
		Stored: m.Stored, Age: m.age(now).Seconds(), TTL: m.TTL.Seconds(), Left: m.left(now, call.Forever).Seconds(), Rule: m.Rule, Class: m.Class,
		Reason: Reason(&r), Purged: !t.valid(m), Size: e.Size(), Tokens: m.Totals.OutputTokens,
	}
	if m.TTL == call.Forever {
		i.TTL, i.Left = -1, -1
	}
	if !text {
		return i, true
	}
	if a, err := e.Answer(nil); err == nil {
		i.Question = string(a.Question)
		for _, f := range a.Frames {
			i.Answer = append(i.Answer, string(f.Data))
		}
		if a.Object != nil {
			i.Answer = []string{string(a.Object)}
		}
	}
	return i, true
}
