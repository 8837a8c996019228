package cache

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// keyVersion changes when equal requests are not to have the answers of older releases any more.
const keyVersion = "caddy-ollama answer 1"

// KeyOf is the key of a request: its canonical text with all else that changes what is answered,
// and to whom. Each part has its length before it, so no two requests make the same bytes.
func KeyOf(identity, version, tenant string, text []byte) call.Key {
	head := make([]byte, 0, 512) // enough for short requests
	for _, part := range [...]string{keyVersion, identity, version, tenant} {
		head = binary.BigEndian.AppendUint64(head, uint64(len(part)))
		head = append(head, part...)
	}
	if len(text) <= cap(head)-len(head) {
		return sha256.Sum256(append(head, text...))
	}
	h := sha256.New()
	h.Write(head)
	h.Write(text)
	var k call.Key
	h.Sum(k[:0])
	return k
}

// QuestionOf is what a request asks of a model.
func QuestionOf(c *call.Caching, r *wire.Request) call.Question {
	text := r.Canonical()
	return call.Question{Key: KeyOf(c.Identity, c.Version, c.Tenant, text), Text: text}
}
