package attempt

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

// How long a loaded model is waited for on the first try: several times what is usual, and
// something for a prompt that is longer than usual.
const (
	patienceFactor = 4
	patienceFloor  = time.Second
	patienceBytes  = 2 << 10 // of the request that are worth a second: 500 tokens, on a slow node
)

// patience is the limit of the first byte. A node where the model is loaded usually answers
// soon; one that does not is given up early, once for each call and if there is another: the
// next try has the whole time, so that what is just slow, such as a very long prompt, is answered all the same. A cold
// load may always take minutes.
func (t *try) patience() time.Duration {
	whole := t.opts.FirstByteTimeout
	if t.grant.Residency != schedule.Resident || t.grant.Others == 0 || len(t.call.Upstream.FailedNodes()) > 0 {
		return whole
	}
	usual, ok := t.Fleet.FirstByte(t.grant.Node, t.call.Request.Model.Key(), true)
	if !ok {
		return whole
	}
	// One answer after another: a node makes the vectors of a call in turn.
	usual = min(whole, usual*time.Duration(t.texts))
	long := time.Duration(t.sends.Len()/patienceBytes) * time.Second
	return min(whole, max(patienceFloor, patienceFactor*usual)+long)
}
