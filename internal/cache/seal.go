package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

const (
	// sealVersion is the first byte of what is sealed.
	sealVersion = 1
	// secretLeast is the fewest bytes of a secret: 128 bits, if they are random.
	secretLeast = 16

	// What the keys are for, so that no two uses share one. Another word is another deployment.
	namesPurpose = "caddy-ollama cache names 1"
	sealsPurpose = "caddy-ollama cache seals 1"

	// expiryBytes is the length of an expiry: milliseconds since 1970, big-endian.
	expiryBytes = 8
	// noExpiry stands for none.
	noExpiry = math.MaxInt64
)

// ErrExpired says that what was sealed is sound, but that its time is over.
var ErrExpired = errors.New("sealed answer has expired")

// A Sealer names and seals what leaves the process: who reads it elsewhere learns neither
// questions nor answers and cannot guess them, and cannot plant, change, move or prolong an entry.
// He can bring back one that was there under the same name, until it expires.
//
// Sealers of one secret understand each other. A Sealer is safe for concurrent use.
type Sealer struct {
	names []byte // key of HMAC-SHA-256
	seals []byte // of which the key of each name is made
}

// NewSealer derives the keys from the secret of a deployment. It refuses one of fewer than 16
// bytes. The secret should be random: guessing it is not made slow.
func NewSealer(secret []byte) (*Sealer, error) {
	if len(secret) < secretLeast {
		return nil, fmt.Errorf("the cache's secret has %d bytes, it needs %d at least: make one with `openssl rand -hex 32`",
			len(secret), secretLeast)
	}
	s := new(Sealer)
	for purpose, key := range map[string]*[]byte{namesPurpose: &s.names, sealsPurpose: &s.seals} {
		var err error
		if *key, err = hkdf.Key(sha256.New, secret, nil, purpose, sha256.Size); err != nil {
			return nil, fmt.Errorf("deriving keys from the cache's secret: %w", err)
		}
	}
	return s, nil
}

// RandomSealer makes a sealer of a secret that only this process knows and forgets, for where
// none is configured: its names still tell nothing, and mean nothing after a restart.
func RandomSealer() *Sealer {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	s, err := NewSealer(secret[:])
	if err != nil {
		panic(err) // only for want of length
	}
	return s
}

// Name is the name outside of a thing that some parts tell apart among its kind: 43 letters,
// digits, - and _. Other parts, or the same ones cut elsewhere, have another name.
func (s *Sealer) Name(kind string, parts ...string) string {
	text := appendBytes(nil, kind)
	for _, part := range parts {
		text = appendBytes(text, part)
	}
	mac := hmac.New(sha256.New, s.names)
	mac.Write(text)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// KeyName is the name outside of an answer's key.
func (s *Sealer) KeyName(k call.Key) string { return s.Name("key", string(k[:])) }

// Seal encrypts plain so that Open gives it back under the same name only, and not after expires
// (zero: whenever), which counts to the millisecond before. Sealing the same twice gives different
// bytes.
//
//	bytes   what
//	1       version
//	12      nonce, random
//	...     encrypted: expiry (8 bytes) and plain
//	16      what authenticates all of it, and the name
func (s *Sealer) Seal(name string, plain []byte, expires time.Time) []byte {
	until := int64(noExpiry)
	if !expires.IsZero() {
		until = expires.UnixMilli()
	}
	aead := s.aead(name)
	text := make([]byte, expiryBytes, expiryBytes+len(plain))
	binary.BigEndian.PutUint64(text, uint64(until))
	text = append(text, plain...)
	sealed := make([]byte, 1, 1+len(text)+aead.Overhead())
	sealed[0] = sealVersion
	return aead.Seal(sealed, nil, text, bound(sealVersion, name))
}

// Open gives what Seal was given. It returns ErrCorrupt for what was not sealed with this secret
// under this name, or was changed since, and ErrExpired if it was, but its time is over at now.
func (s *Sealer) Open(name string, sealed []byte, now time.Time) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, ErrCorrupt
	}
	text, err := s.aead(name).Open(nil, nil, sealed[1:], bound(sealed[0], name))
	if err != nil || len(text) < expiryBytes {
		return nil, ErrCorrupt
	}
	until := int64(binary.BigEndian.Uint64(text))
	if until != noExpiry && now.UnixMilli() >= until {
		return nil, ErrExpired
	}
	return text[expiryBytes:], nil
}

// aead seals under one name. Each has a key of its own: random nonces are good for 2^32 uses of
// one key, which all entries of a deployment together could reach in its life.
func (s *Sealer) aead(name string) cipher.AEAD {
	key, err := hkdf.Expand(sha256.New, s.seals, name, 32) // 32: AES-256
	if err != nil {
		panic(err) // only for want of room for the length
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only for the length of the key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for another cipher
	}
	return aead
}

// bound is what is authenticated beside the text itself.
func bound(version byte, name string) []byte { return append([]byte{version}, name...) }
