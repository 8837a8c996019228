package simnode

import "maps"

// Stats are counts of what a Node did since New.
type Stats struct {
	Requests map[string]int        // requests by URL path, also refused ones
	Models   map[string]ModelStats // by name with tag, such as "tiny:latest"; the name a runner was loaded under

	Loads       int // loads that ended well
	LoadsFailed int // loads that failed by themselves
	Evictions   int // runners ended to make room for a load or a reload
	Expired     int // runners ended by their keep-alive or by an unload request
	Cancelled   int // requests whose client left before the end of the answer
	Refused     int // requests refused because the load queue was full
	PrefixHits  int // prompts of which a slot had half or more in its cache
	Queue       int // requests waiting for a load now, the one being served included
	PeakQueue   int // the most there ever were
}

// ModelStats are the counts of one model.
type ModelStats struct {
	Answers     int // answers and embedded inputs that got a slot
	Running     int // slots in use now
	Peak        int // the most slots ever in use at once
	Waiting     int // requests waiting for a slot now
	PeakWaiting int
	Cancelled   int // answers cut, and waits for a slot left, by a client that went away
}

// Stats returns a copy of the counts. It is safe for concurrent use.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.stats
	s.Requests = maps.Clone(n.stats.Requests)
	s.Models = make(map[string]ModelStats, len(n.models))
	for name, m := range n.perModel {
		s.Models[name] = *m
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
