package simnode

import "slices"

// A promptCache is what a runner keeps of the prompts that its slots had to forget, as llama-server does in the host's
// memory. Without one, a slot that is given to another conversation costs the one before all it had read.
type promptCache struct {
	most  int     // tokens
	held  int     // tokens
	saved [][]int // the longest unused first
}

// exchange gives a slot the state that suits a prompt best. What the slot had is saved if the prompt keeps less than
// half of it, and a saved state that begins as the prompt does for longer than the slot's comes in its place.
func (c *promptCache) exchange(s *slot, tokens []int) {
	if c.most <= 0 {
		return
	}
	kept := commonPrefix(s.cache, tokens)
	best, longest := -1, kept
	for i, saved := range c.saved {
		if n := commonPrefix(saved, tokens); n > longest {
			best, longest = i, n
		}
	}
	var found []int
	if best >= 0 {
		found = c.remove(best)
	}
	if kept*2 < len(s.cache) {
		c.save(s.cache)
	}
	if best >= 0 {
		s.cache = found
	}
}

// save keeps a state in place of those that it begins with; the longest unused ones go when there is no more room.
func (c *promptCache) save(tokens []int) {
	for i := len(c.saved) - 1; i >= 0; i-- {
		switch n := commonPrefix(c.saved[i], tokens); n {
		case len(tokens):
			return // it is the beginning of one that is kept
		case len(c.saved[i]):
			c.remove(i)
		}
	}
	c.saved = append(c.saved, tokens)
	c.held += len(tokens)
	for c.held > c.most {
		c.remove(0)
	}
}

func (c *promptCache) remove(i int) []int {
	tokens := c.saved[i]
	c.saved = slices.Delete(c.saved, i, i+1)
	c.held -= len(tokens)
	return tokens
}
