package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"strconv"
)

// How many numbers a node's ids have: it takes them at random.
const (
	chatNumbers     = 999    // chatcmpl-N and cmpl-N
	responseNumbers = 999999 // resp_N and the items of a response
)

// ids mints the ids of one answer: each part that tells one id from others gets a new one, the
// same for the same, so that what belongs together in a recording still does when it is told.
type ids struct {
	numbers int // how many numbers there are; 0: ids are of 24 hex digits, as Anthropic's are
	minted  []newID
}

type newID struct{ old, new []byte }

// idsOf gives the ids of a route's answers.
func idsOf(r Route) ids {
	switch {
	case r.Dialect == Anthropic:
		return ids{}
	case r.Operation == Responses:
		return ids{numbers: responseNumbers}
	}
	return ids{numbers: chatNumbers}
}

// part finds what tells an id from others: in one of src between two offsets, the first number
// or all behind the first "_". There is nothing in an id with escapes, which no node writes.
func (m *ids) part(src []byte, from, to int) (int, int) {
	if bytes.IndexByte(src[from:to], '\\') >= 0 {
		return to, to
	}
	isDigit := func(c byte) bool { return '0' <= c && c <= '9' }
	for ; from < to; from++ {
		if m.numbers == 0 && src[from] == '_' {
			return from + 1, to
		}
		if m.numbers > 0 && isDigit(src[from]) {
			end := from + 1
			for end < to && isDigit(src[end]) {
				end++
			}
			return from, end
		}
	}
	return to, to
}

// mint gives the part of a new id in the place of that of a recorded one.
func (m *ids) mint(old []byte) []byte {
	for i := range m.minted {
		if string(m.minted[i].old) == string(old) {
			return m.minted[i].new
		}
	}
	id := newID{append([]byte(nil), old...), m.fresh(old)}
	m.minted = append(m.minted, id)
	return id.new
}

// fresh gives a part that is neither the recorded one nor one that this answer has already.
func (m *ids) fresh(old []byte) []byte {
	for range 100 { // an answer with hundreds of items may run out of numbers
		part := m.random()
		if string(part) != string(old) && !m.has(part) {
			return part
		}
	}
	return m.random()
}

func (m *ids) has(part []byte) bool {
	for i := range m.minted {
		if string(m.minted[i].new) == string(part) {
			return true
		}
	}
	return false
}

func (m *ids) random() []byte {
	if m.numbers > 0 {
		return strconv.AppendInt(nil, int64(mathrand.IntN(m.numbers)), 10)
	}
	var b [12]byte
	rand.Read(b[:]) // never fails: it ends the process instead
	return hex.AppendEncode(nil, b[:])
}
