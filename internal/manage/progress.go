package manage

// A step is a status or a layer, as far as it has come.
type step struct {
	Record
	said int // nodes that have said this status
}

// steps are those of a node, or of all, in the order in which they began. Only the owner of a Job's
// lock touches them.
type steps struct {
	all   []*step
	index map[string]*step // layers by digest, others by status
}

// of finds or begins the step that a record is about; nil if there are too many.
func (s *steps) of(r Record) *step {
	key := r.Digest
	if key == "" {
		key = "\x00" + r.Status // no digest begins so
	}
	if known := s.index[key]; known != nil {
		return known
	}
	if len(s.all) >= itemsLimit {
		return nil
	}
	if s.index == nil {
		s.index = make(map[string]*step)
	}
	begun := &step{Record: Record{Status: r.Status, Digest: r.Digest}}
	s.index[key], s.all = begun, append(s.all, begun)
	return begun
}

// A runner is one node's part of a Job, or the only part, which passes from node to node.
type runner struct {
	node    Node
	steps   steps
	ended   bool
	failure *Failure // nil: it succeeded, once ended
	failed  []Result // nodes that it has passed from
}

// note takes a record of a node over. It tells whether anything is new.
func (r *runner) note(rec Record) (fresh bool) {
	s := r.steps.of(rec)
	if s == nil {
		return false
	}
	if rec.Digest == "" {
		fresh = s.said == 0
		s.said = 1
		return fresh
	}
	// A node that lost a part of a layer begins it again: it does not go back here.
	fresh = s.said == 0 || rec.Total > s.Total || rec.Completed > s.Completed
	s.said = 1
	s.Total, s.Completed = max(s.Total, rec.Total), max(s.Completed, rec.Completed)
	return fresh
}

// has is what a node counts for a layer of so many bytes: one that is done has it.
func (r *runner) has(digest string, size int64) int64 {
	if r.ended && r.failure == nil {
		return size
	}
	if s := r.steps.index[digest]; s != nil {
		return min(s.Completed, size)
	}
	return 0
}

// hasSaid tells whether a node is at a status or beyond.
func (r *runner) hasSaid(status string) bool {
	if r.ended && r.failure == nil {
		return true
	}
	s := r.steps.index["\x00"+status]
	return s != nil
}

// merge brings the steps of all nodes together up to date.
//
// A status is there when the slowest node has said it. The total of a layer is its size times the
// number of nodes from its first record on, because clients make a bar of the first total they see.
// What is completed is the sum over the nodes. When a node fails, the others' part stands for all,
// so that the bar still ends where it should; and it never goes back.
func merge(all *steps, runners []*runner) {
	living := 0
	for _, r := range runners {
		if !r.ended || r.failure == nil {
			living++
		}
		for _, s := range r.steps.all {
			merged := all.of(s.Record)
			if merged != nil && s.Digest != "" && merged.Total == 0 {
				merged.Total = s.Total * int64(len(runners))
			}
		}
	}
	if living == 0 {
		return
	}
	for _, s := range all.all {
		if s.Digest == "" {
			s.said = said(s.Status, runners)
			continue
		}
		s.said = living
		size, sum := s.Total/int64(len(runners)), int64(0)
		for _, r := range runners {
			if !r.ended || r.failure == nil {
				sum += r.has(s.Digest, size)
			}
		}
		completed := sum
		if living < len(runners) {
			completed = int64(float64(sum) / float64(living) * float64(len(runners)))
		}
		s.Completed = max(s.Completed, min(completed, s.Total))
	}
}

// said is 1 if all nodes that have not failed have said a status.
func said(status string, runners []*runner) int {
	for _, r := range runners {
		if (!r.ended || r.failure == nil) && !r.hasSaid(status) {
			return 0
		}
	}
	return 1
}
