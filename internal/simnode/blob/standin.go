package blob

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// magic begins every GGUF file; version 3 follows.
const magic = "GGUF\x03\x00\x00\x00"

// A standIn is a file that takes the place of another.
type standIn struct {
	digest  string // 64 hex digits of the file that it stands for
	size    int64
	header  []byte // never longer than size
	pattern []byte // what follows, from every offset that is a multiple of 64 on
}

type standInHeader struct {
	StandIn string          `json:"stand_in"`
	Size    int64           `json:"size"`
	Meta    json.RawMessage `json:"meta,omitempty"`
}

func newStandIn(digest string, size int64, meta json.RawMessage) *standIn {
	s := &standIn{digest: digest, size: size, pattern: bytes.Repeat([]byte(digest), 512)}
	for _, m := range []json.RawMessage{meta, nil} { // a file too short for the meta is one without
		line, err := json.Marshal(standInHeader{digest, size, m})
		if err != nil {
			continue
		}
		s.header = append(append([]byte(magic), line...), '\n')
		if int64(len(s.header)) <= size {
			return s
		}
	}
	s.header = s.header[:max(0, min(size, int64(len(s.header))))]
	return s
}

// parseStandIn reads the begin of a file. It returns nil when that is no stand-in, and whether more of the file could
// still make it one.
func parseStandIn(head []byte) (s *standIn, more bool) {
	if len(head) < len(magic) {
		return nil, strings.HasPrefix(magic, string(head))
	}
	rest, ok := bytes.CutPrefix(head, []byte(magic))
	if !ok {
		return nil, false
	}
	const begin = `{"stand_in":`
	if !bytes.HasPrefix(rest, []byte(begin[:min(len(rest), len(begin))])) {
		return nil, false
	}
	line, _, ok := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return nil, len(head) < SmallLimit
	}
	var h standInHeader
	if json.Unmarshal(line, &h) != nil || !IsHex(h.StandIn) {
		return nil, false
	}
	s = newStandIn(h.StandIn, h.Size, h.Meta)
	if !bytes.HasSuffix(s.header, []byte("\n")) || !bytes.HasPrefix(head, s.header) { // somebody else wrote that
		return nil, false
	}
	return s, false
}

// piece returns up to n bytes at an offset that lies within the file.
func (s *standIn) piece(off int64, n int) []byte {
	if begin := int64(len(s.header)); off < begin {
		return s.header[off:min(begin, off+int64(n))]
	}
	from := int(off % 64)
	return s.pattern[from : from+int(min(int64(n), int64(len(s.pattern)-from), s.size-off))]
}

// ReadAt makes the bytes of the file.
func (s *standIn) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < s.size {
		k := copy(p[n:], s.piece(off, len(p)-n))
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// matches reports whether the bytes are those of the file at the offset.
func (s *standIn) matches(p []byte, off int64) bool {
	for len(p) > 0 {
		if off >= s.size {
			return false
		}
		want := s.piece(off, len(p))
		if !bytes.Equal(p[:len(want)], want) {
			return false
		}
		p, off = p[len(want):], off+int64(len(want))
	}
	return true
}

// IsHex reports whether s has the 64 digits of a SHA-256.
func IsHex(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
