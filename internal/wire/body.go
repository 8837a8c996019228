package wire

import (
	"bytes"
	"io"
	"unicode/utf8"
)

// A Body is a request body in pieces, so that patching a field copies nothing. The pieces
// are never changed.
type Body [][]byte

// Len is the length in bytes.
func (b Body) Len() int64 {
	var n int64
	for _, p := range b {
		n += int64(len(p))
	}
	return n
}

// Reader reads the pieces in order. Each call gives a reader of its own.
func (b Body) Reader() io.Reader {
	if len(b) == 1 {
		return bytes.NewReader(b[0])
	}
	readers := make([]io.Reader, len(b))
	for i, p := range b {
		readers[i] = bytes.NewReader(p)
	}
	return io.MultiReader(readers...)
}

// Bytes joins the pieces. It copies and is meant for tests.
func (b Body) Bytes() []byte { return bytes.Join(b, nil) }

// A patch puts text in the place of from:to of a body.
type patch struct {
	from, to int
	text     string
}

// pieceGap is the shortest part of a body that is worth a piece of its own; a shorter one
// between two patches is copied. It keeps what the pieces themselves cost (48 bytes for one
// and its patch) under a fifth of the body, however many patches a client provokes.
const pieceGap = 256

// pieceFull is where a piece of copied bytes ends, so that none has to grow far.
const pieceFull = 64 << 10

// A patcher assembles a Body.
type patcher struct {
	source []byte
	at     int // what comes before has been taken
	pieces Body
	fresh  []byte // copied and replaced bytes that are not in pieces yet
}

// assemble gives source[from:to] with the patches, which are in order and do not overlap, and
// with everything replaced that a node reads as U+FFFD, unless clean says that there is
// nothing of it. Patches begin and end outside strings.
func assemble(source []byte, from, to int, patches []patch, clean bool) Body {
	a := patcher{source: source, at: from}
	for _, p := range patches {
		if !clean {
			a.repair(p.from)
		}
		a.replace(p.from, p.to, p.text)
	}
	if !clean {
		a.repair(to)
	}
	a.replace(to, to, "")
	a.flush()
	return a.pieces
}

func (a *patcher) replace(from, to int, text string) {
	if part := a.source[a.at:from]; len(part) < pieceGap {
		a.fresh = append(a.fresh, part...)
	} else {
		a.flush()
		a.pieces = append(a.pieces, part)
	}
	a.fresh = append(a.fresh, text...)
	a.at = to
	if len(a.fresh) >= pieceFull {
		a.flush()
		a.fresh = make([]byte, 0, min(pieceFull+pieceGap, 2*(len(a.source)-to)+pieceGap))
	}
}

func (a *patcher) flush() {
	if len(a.fresh) > 0 {
		a.pieces = append(a.pieces, a.fresh)
		a.fresh = nil
	}
}

// repair replaces each bad byte and each half of a surrogate pair before to.
func (a *patcher) repair(to int) {
	s := a.source[:to]
	for i := a.at; i < to; {
		switch c := s[i]; {
		case c == '\\':
			_, size := escaped(s[i:])
			if size == 6 && isHalf(s[i:]) {
				a.replace(i, i+size, `\ufffd`)
			}
			i += size
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				a.replace(i, i+1, "\uFFFD")
			}
			i += size
		}
	}
}
