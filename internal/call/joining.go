package call

// Joining is what makes a call one that others may follow, and that may follow others. It is never
// changed.
type Joining struct {
	Key    Key  // of the question
	Native *Key // of the equal native chat of an OpenAI one: it may follow that, not the other way round
	Alone  bool // it wants an answer generated for it: it follows nobody; others may follow it
	// Client is who asks, of a call whose answer is drawn at random: who asks several times wants
	// several draws, so it does not follow a flight that is for that client already. "": it may.
	Client string
}

// Joined notes that the call follows another one's answer, whose upstream is lead.
func (c *Cached) Joined(lead *Upstream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Lead = lead
}
