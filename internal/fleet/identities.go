package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// showers is how many models are asked for at once, in the whole fleet: a show reads the
	// head of a model file, and nodes have other things to do.
	showers = 4
	// showTimeout: a node that answers nothing else meanwhile reads a cold file from a disk.
	showTimeout = 10 * time.Second
	// showHolders is how many nodes are asked before a show has failed.
	showHolders = 3
	// showsLimit bounds the bodies kept for ShowBody, in bytes altogether.
	showsLimit = 64 << 20
	// A show that failed is asked again after retryFirst, then twice as long, up to retryLast.
	retryFirst = 30 * time.Second
	retryLast  = 10 * time.Minute
	// showPause is the least time between snapshots while answers come in by the hundred.
	showPause = 100 * time.Millisecond
)

// identities are what is known of manifest digests.
type identities struct {
	mu         sync.Mutex // guards what follows
	known      map[string]*shown
	generation uint64 // counts the changes of known
	kept       int64  // bytes of bodies in known
	queue      []string
	pending    map[string]bool // queued or being asked
	workers    int
	failing    bool // some have to be asked again
	published  time.Time
}

// identify queues the digests that are listed by nodes that are alive and not known, and forgets
// those that no node lists any more. No lock may be held.
func (f *Fleet) identify() {
	ids := &f.models
	now := time.Now()
	ids.mu.Lock()
	listed := make(map[string]bool, len(ids.known))
	for _, n := range f.configuredNodes() {
		x := n.facts.Load()
		for _, r := range x.tags.rows {
			if r.digest == "" {
				continue
			}
			listed[r.digest] = true
			s := ids.known[r.digest]
			if x.state.Alive() && !ids.pending[r.digest] && (s == nil || s.tries > 0 && !now.Before(s.retry)) {
				ids.pending[r.digest] = true
				ids.queue = append(ids.queue, r.digest)
			}
		}
	}
	ids.failing = false
	for digest, s := range ids.known {
		if s.tries > 0 {
			ids.failing = true
		}
		if !listed[digest] {
			ids.kept -= int64(len(s.body))
			delete(ids.known, digest)
		}
	}
	start := min(showers-ids.workers, len(ids.queue))
	ids.workers += max(start, 0)
	ids.mu.Unlock()

	for range start {
		f.mu.Lock()
		closed := f.closed
		if !closed {
			f.wg.Go(f.show) // ends when nothing is queued, or with Close
		}
		f.mu.Unlock()
		if closed {
			ids.mu.Lock()
			ids.workers--
			ids.mu.Unlock()
		}
	}
}

// identifyFailed asks again for what has failed, if its time has come.
func (f *Fleet) identifyFailed() {
	f.models.mu.Lock()
	failing := f.models.failing
	f.models.mu.Unlock()
	if failing {
		f.identify()
	}
}

// show asks for queued digests until there are none.
func (f *Fleet) show() {
	ids := &f.models
	for {
		ids.mu.Lock()
		if len(ids.queue) == 0 || f.ctx.Err() != nil {
			ids.workers--
			ids.mu.Unlock()
			return
		}
		digest := ids.queue[0]
		ids.queue = ids.queue[1:]
		ids.mu.Unlock()

		s, err := f.ask(f.ctx, digest)

		ids.mu.Lock()
		delete(ids.pending, digest)
		changed := ids.learnLocked(digest, s, err)
		publish := ids.dirtyLocked(changed)
		ids.mu.Unlock()
		if publish && f.ctx.Err() == nil {
			f.publish()
		}
	}
}

// dirtyLocked tells whether a snapshot is due: now and then while more are queued, after each
// answer when none is.
func (ids *identities) dirtyLocked(changed bool) bool {
	last := len(ids.queue) == 0 // what is still being asked may hang
	if !changed && !last {
		return false
	}
	if !last && time.Since(ids.published) < showPause {
		return false
	}
	ids.published = time.Now()
	return true
}

// errNobodyHolds says that no node that is alive lists a digest any more.
var errNobodyHolds = errors.New("no node holds it")

// learnLocked takes over an answer, or that there was none.
func (ids *identities) learnLocked(digest string, s *shown, err error) bool {
	old := ids.known[digest]
	switch {
	case errors.Is(err, errNobodyHolds), errors.Is(err, context.Canceled):
		ids.failing = true // nobody can be asked now
		return false
	case err != nil:
		s = &shown{identity: digest, tries: 1}
		if old != nil {
			s.tries = min(old.tries+1, 16)
		}
		s.retry = time.Now().Add(min(retryFirst<<(s.tries-1), retryLast))
		ids.failing = true
	}
	if old != nil {
		ids.kept -= int64(len(old.body))
	}
	if ids.kept+int64(len(s.body)) > showsLimit {
		s.body = nil
	}
	ids.kept += int64(len(s.body))
	ids.known[digest] = s
	ids.generation++
	return true
}

// ask asks nodes that are alive and list a digest what it is.
func (f *Fleet) ask(ctx context.Context, digest string) (*shown, error) {
	err := errNobodyHolds
	asked := 0
	for _, n := range f.configuredNodes() {
		x := n.facts.Load()
		r := x.tags.byDigest[digest]
		if !x.state.Alive() || r == nil {
			continue
		}
		if r.cloud {
			// Asking for it would leave the building. There are no weights to tell apart.
			return &shown{identity: digest}, nil
		}
		body, _ := json.Marshal(map[string]string{"model": r.name}) // strings always marshal
		var s *shown
		if body, err = n.ask(ctx, showTimeout, http.MethodPost, "/api/show", body, showLimit); err == nil {
			if s, err = parseShow(slices.Clip(body), r); err == nil {
				return s, nil
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, errOtherModel) || errors.Is(err, statusFault(http.StatusNotFound)) {
			n.want(tags)
		}
		if asked++; asked == showHolders {
			break
		}
	}
	return nil, err
}
