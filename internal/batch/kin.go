package batch

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A kin is what texts have in common that may be sent in one call.
type kin struct {
	identity, version, tenant string

	model  string // as it is spelt: a node's refusal says it
	others string // all else that the request says, and its route
	class  call.Class
	// patient calls may wait for ever, others may not.
	patient bool

	requested, effective wire.RunnerOptions
	embedding            bool
	keep                 bool // the request says how long the model stays
	keepAlive            time.Duration
}

func kinOf(c *call.Call, e *wire.Embedding) kin {
	w, r := c.Caching, c.Request
	k := kin{
		identity: w.Identity, version: w.Version, tenant: w.Tenant,
		model: r.Model.Spelling, others: e.Others(), class: c.Class, patient: c.Patient,
		requested: r.Runner, effective: c.Runner, embedding: c.Embedding,
	}
	if r.KeepAlive != nil {
		k.keep, k.keepAlive = true, *r.KeepAlive
	}
	return k
}

// keyVersion changes when equal texts are not to have the vectors of older releases any more.
const keyVersion = "caddy-ollama vector 1"

// A keyer makes the keys of the texts of one call.
type keyer struct{ scope []byte }

// newKeyer begins them with all that changes a vector and is not in the form of its text. Each
// part has its length before it, so no two begin alike.
func newKeyer(w *call.Caching) keyer {
	scope := make([]byte, 0, 192)
	for _, part := range [...]string{keyVersion, w.Identity, w.Version, w.Tenant} {
		scope = binary.BigEndian.AppendUint64(scope, uint64(len(part)))
		scope = append(scope, part...)
	}
	return keyer{scope}
}

// question is what a form of a text stands for.
func (k keyer) question(form []byte) call.Question {
	h := sha256.New()
	h.Write(k.scope)
	h.Write(form)
	q := call.Question{Text: form}
	h.Sum(q.Key[:0])
	return q
}
