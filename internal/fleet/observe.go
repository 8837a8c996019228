package fleet

import "time"

// An Observer is told what becomes of nodes. It is called outside any lock, by several goroutines
// at once.
type Observer interface {
	NodeMoved(node string, to State)                     // into another state
	NodeChecked(node, result string, took time.Duration) // a health check has ended
}

// What a health check may show.
const (
	CheckOK          = "ok"
	CheckUnreachable = "unreachable" // no connection, or one that broke
	CheckTimeout     = "timeout"
	CheckTLS         = "tls_error"
	CheckStatus      = "status"   // an answer other than 200
	CheckProtocol    = "protocol" // not an answer of Ollama's
)

// CheckResults lists them.
var CheckResults = [...]string{CheckOK, CheckUnreachable, CheckTimeout, CheckTLS, CheckStatus, CheckProtocol}

// Observe has an observer told what becomes of nodes. It is for the time before the fleet is
// configured.
func (f *Fleet) Observe(o Observer) { f.observer = o }

// checked tells of a health check that somebody waited for to its end.
func (f *Fleet) checked(n *Node, err error, took time.Duration) {
	if f.observer != nil {
		f.observer.NodeChecked(n.Name(), checkResult(err), took)
	}
}

func checkResult(err error) string {
	switch reason := reasonOf(err); {
	case err == nil:
		return CheckOK
	case reason == "timeout":
		return CheckTimeout
	case reason == "TLS failed":
		return CheckTLS
	case reason == errNotOllama.Error(), reason == errTooLarge.Error():
		return CheckProtocol
	case answers(err):
		return CheckStatus
	}
	return CheckUnreachable
}
