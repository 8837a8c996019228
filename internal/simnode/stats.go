package simnode

import (
	"maps"
	"time"
)

// Stats are counts of what a Node did since New.
type Stats struct {
	Requests map[string]int        `json:"requests"` // requests by URL path, also refused ones
	Models   map[string]ModelStats `json:"models"`   // by name with tag, such as "tiny:latest"; the name a runner was loaded under

	Loads       int `json:"loads"`        // loads that ended well
	LoadsFailed int `json:"loads_failed"` // loads that failed by themselves
	Evictions   int `json:"evictions"`    // runners ended to make room for a load or a reload
	Expired     int `json:"expired"`      // runners ended by their keep-alive or by an unload request
	Cancelled   int `json:"cancelled"`    // requests whose client left before the end of the answer, also those that a fault held
	Refused     int `json:"refused"`      // requests refused because the load queue was full
	PrefixHits  int `json:"prefix_hits"`  // prompts of which a slot had half or more in its cache
	Queue       int `json:"queue"`        // requests waiting for a load now, the one being served included
	PeakQueue   int `json:"peak_queue"`   // the most there ever were

	PromptTokens int `json:"prompt_tokens"` // tokens of the prompts that answers began from, embedded inputs left out
	PrefixTokens int `json:"prefix_tokens"` // of these, tokens that the slot had in its cache and did not read again

	Running int `json:"running"` // requests that are being answered now
	Peak    int `json:"peak"`    // the most at once

	Faulted  map[string]int `json:"faulted"`  // requests struck by a fault, by its name
	Crashes  int            `json:"crashes"`  // runners that died
	Deaths   int            `json:"deaths"`   // how often the node died
	Orphaned int64          `json:"orphaned"` // bytes held by runners that dead nodes left behind
}

// ModelStats are the counts of one model.
type ModelStats struct {
	Answers     int `json:"answers"` // answers and embedded inputs that got a slot
	Running     int `json:"running"` // slots in use now
	Peak        int `json:"peak"`    // the most slots ever in use at once
	Waiting     int `json:"waiting"` // requests waiting for a slot now
	PeakWaiting int `json:"peak_waiting"`
	Cancelled   int `json:"cancelled"` // answers cut, and waits for a slot left, by a client that went away

	// Busy is how long at least one slot was in use, in nanoseconds: what the model took of a GPU.
	Busy time.Duration `json:"busy"`

	since time.Time // when the first of the slots in use was taken
}

// startLocked and endLocked count a slot that is taken, or given back.
func (m *ModelStats) startLocked() {
	if m.Running++; m.Running == 1 {
		m.since = time.Now()
	}
	m.Peak = max(m.Peak, m.Running)
}

func (m *ModelStats) endLocked() {
	if m.Running--; m.Running == 0 {
		m.Busy += time.Since(m.since)
	}
}

// Stats returns a copy of the counts. It is safe for concurrent use.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.stats
	s.Requests, s.Faulted = maps.Clone(n.stats.Requests), maps.Clone(n.stats.Faulted)
	s.Models = make(map[string]ModelStats, len(n.models))
	for name, m := range n.perModel {
		now := *m
		if now.Running > 0 {
			now.Busy += time.Since(now.since)
		}
		s.Models[name] = now
	}
	return s
}

func (n *Node) modelStatsLocked(name string) *ModelStats {
	m := n.perModel[name]
	if m == nil {
		m = new(ModelStats)
		n.perModel[name] = m
	}
	return m
}
