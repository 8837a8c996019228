// Package keys knows who may ask: a list of names and of the hashes of their secrets.
//
// Secrets are random and long, so a plain SHA-256 keeps them: there is nothing to guess. No
// error of this package says a secret or a hash. keys knows nothing of HTTP or of where its
// text comes from.
package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	// nameLimit is the length of the longest name, in bytes.
	nameLimit = 64
	// prefix tells people and secret scanners what a secret is; several clients insist on it.
	prefix = "sk-"
)

// ErrEmpty says that a text holds no key at all, so that nobody could ask.
var ErrEmpty = errors.New("there is no key; each line is a name and the SHA-256 of a key, as the command key prints it")

// Keys are the keys of a file. They are immutable and safe for concurrent use.
type Keys struct {
	entries []entry
}

// An entry is one line.
type entry struct {
	name string
	hash [sha256.Size]byte
}

// Parse reads lines of a name and the hexadecimal SHA-256 of a key, with blanks between.
// Empty lines are left out, and those that begin with #. A name may have several keys, so that
// an old one works on while it is replaced; a key has one line. Errors name the line and repeat
// nothing of it: it may hold a secret by mistake.
func Parse(text string) (*Keys, error) {
	k := &Keys{}
	first := map[[sha256.Size]byte]int{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		e, err := parseLine(words)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if before, twice := first[e.hash]; twice {
			return nil, fmt.Errorf("line %d: the key of line %d again; give each line a key of its own", number, before)
		}
		first[e.hash] = number
		k.entries = append(k.entries, e)
	}
	if len(k.entries) == 0 {
		return nil, ErrEmpty
	}
	return k, nil
}

// emptyHash is the hash of no secret at all.
var emptyHash = sha256.Sum256(nil)

func parseLine(words []string) (entry, error) {
	if len(words) != 2 {
		return entry{}, fmt.Errorf("it has %d words; write a name and a hash, as the command key prints them", len(words))
	}
	e := entry{name: words[0]}
	if err := checkName(e.name); err != nil {
		return entry{}, err
	}
	hash, err := hex.DecodeString(words[1])
	switch {
	case err != nil || len(hash) != len(e.hash):
		return entry{}, errors.New("the second word is not a SHA-256 of 64 hexadecimal digits; write the line that the command key prints")
	case [sha256.Size]byte(hash) == emptyHash:
		return entry{}, errors.New("the hash is that of an empty key")
	}
	e.hash = [sha256.Size]byte(hash)
	return e, nil
}

// checkName keeps names such that they can stand in a log line, a metric's label and a file's
// name. Its errors do not repeat the name, which may be a secret by mistake.
func checkName(name string) error {
	letter := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' }
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > nameLimit:
		return fmt.Errorf("the name is longer than %d bytes", nameLimit)
	case strings.HasPrefix(name, prefix):
		return fmt.Errorf("the name begins like a key, with %s; the name is the first word", prefix)
	}
	for i := range len(name) {
		if c := name[i]; !letter(c) && (i == 0 || strings.IndexByte("._@-", c) < 0) {
			return errors.New("the name is made of letters, digits and ._@- and begins with a letter or a digit")
		}
	}
	return nil
}

// Lookup tells whose key a secret is. It takes as long for every secret of one length: each
// entry is compared to its end.
func (k *Keys) Lookup(secret string) (name string, ok bool) {
	hash := sha256.Sum256([]byte(secret))
	found := -1
	for i := range k.entries {
		equal := subtle.ConstantTimeCompare(hash[:], k.entries[i].hash[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 || secret == "" {
		return "", false
	}
	return k.entries[found].name, true
}

// Len is the number of keys.
func (k *Keys) Len() int { return len(k.entries) }

// New makes a key: the line of a file for it, and the secret, which has 130 random bits.
func New(name string) (line, secret string, err error) {
	if err := checkName(name); err != nil {
		return "", "", err
	}
	secret = prefix + rand.Text()
	hash := sha256.Sum256([]byte(secret))
	return name + " " + hex.EncodeToString(hash[:]), secret, nil
}
