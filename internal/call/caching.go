package call

import (
	"errors"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Key names an answer: two calls that have the same may be given the same answer.
type Key [32]byte

// A Question is what a Key stands for.
type Question struct {
	Key  Key
	Text []byte // the canonical form of the request, see wire.Request.Canonical; compared on a hit
}

// ErrNotCached refuses a call whose client wants what is stored or nothing.
var ErrNotCached = errors.New("no answer is stored, and the client wants no other")

// Caching is what admit found out of a call for the steps that share answers. It is never
// changed.
type Caching struct {
	Question
	// Native is the equal native chat of an OpenAI one, nil if there is none: its answer will do.
	Native *Question

	Identity string   // of the model
	Version  string   // of Ollama, on which the answer is to come from
	Tenant   string   // scope of whose answers may be shared; never shown outside
	Tags     []string // by which the answer can be purged

	Verdict Verdict
	Until   time.Time // when an answer of now is over, whatever the verdict; zero: never
	Control Control
}

// Forever is the TTL of what is kept until it is evicted.
const Forever = time.Duration(1<<63 - 1)

// A Verdict is what the policy says of a call.
type Verdict struct {
	TTL   time.Duration // 0: it is neither looked up nor stored
	Rule  string        // that decided, as it is written: "ttl 60s prompt *urgent*"
	Class string        // deterministic, sampled or embedding: for metrics
	// Why says in a word why TTL is 0: for metrics and Cache-Status.
	Why string
	// ToolCalls tells that an answer that calls tools may be stored, too.
	ToolCalls bool

	// Adaptive has the TTL follow what is seen of the answer's changes; TTL is the longest then.
	// nil: it is TTL.
	Adaptive *Adaptive
	// Source tells the version of what the answer is made from, as far as the client says it; 0: it
	// does not.
	Source uint64
}

// An Adaptive says how the TTL of an answer follows how often it changes. It is never changed.
type Adaptive struct {
	Target float64       // share of the answers given that may be stale, more than 0 and less than 1
	First  time.Duration // TTL of an answer of whose changes nothing is known
	Min    time.Duration // the shortest TTL
	Max    time.Duration // the longest

	// SourceHeader is the header in which a request tells the version of what its answer is made
	// from, as text; "": what was said is compared.
	SourceHeader string
	// SourceTags has a purge by one of the answer's tags count as its change, and nothing else.
	SourceTags bool
}

// A Control is what the client wishes of the cache (RFC 9111 section 5.2.1). The zero value is no
// wish.
type Control struct {
	NoCache      bool // generate anew, and store that
	NoStore      bool // store nothing
	OnlyIfCached bool // 504 rather than generate

	MaxAge   *time.Duration // an older answer will not do
	MinFresh *time.Duration // it must stay fresh for so long
	MaxStale *time.Duration // so long after its time it still will do; Forever: whatever its age
}

// Cached is what the cache did for a call. The steps write it while they answer, the gateway
// reads it when there is an answer. Safe for concurrent use.
type Cached struct {
	mu sync.Mutex
	CacheResult
}

// A CacheResult is what became of a call at the cache. The zero value is no cache.
type CacheResult struct {
	Status  CacheStatus
	Detail  string        // a word that says more: why it was bypassed, why stale
	Backend string        // that had the answer: memory or redis
	Age     time.Duration // of the answer
	TTL     time.Duration // that is left; Forever
	Rule    string        // that gave the TTL
	Stored  bool          // the answer has been stored: known only of whole answers
	Saved   wire.Totals   // what the answer cost when it was generated

	Adaptive      bool   // its TTL follows its changes
	Seen, Changed uint32 // refreshes that were compared, and those that differed

	Lead  *Upstream // that of the call whose answer this one followed, nil if it followed none
	Texts Texts     // of an embedding whose texts went their own ways
}

// A CacheStatus is a word for logs and metrics.
type CacheStatus string

// What may become of a call at the cache.
const (
	Hit    CacheStatus = "hit"
	Stale  CacheStatus = "stale"  // an answer whose time is over, given for want of another
	Miss   CacheStatus = "miss"   // there was none, or none fresh enough
	Bypass CacheStatus = "bypass" // not to be cached
)

// Set writes down what became of the call.
func (c *Cached) Set(r CacheResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Lead = c.Lead
	c.CacheResult = r
}

// SetStored notes that the answer has been stored.
func (c *Cached) SetStored() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Stored = true
}

// Result is what became of it so far.
func (c *Cached) Result() CacheResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.CacheResult
}
