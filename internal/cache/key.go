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
	h := sha256.New()
	var n [8]byte
	for _, part := range [...]string{keyVersion, identity, version, tenant} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
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
