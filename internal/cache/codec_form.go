package cache

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// listLimit bounds the tags and the marks of an entry that is read, far above what one has.
const listLimit = 1 << 10

// texts are the strings of a Meta without its tags, in the order in which they are stored.
func (m *Meta) texts() [8]*string {
	return [...]*string{&m.Route, &m.Model, &m.Identity, &m.Version, &m.Tenant, &m.Rule, &m.Class, &m.Totals.DoneReason}
}

// appendMeta encodes a Meta.
//
//	bytes   what
//	32      key
//	...     route, model, identity, version, tenant, rule, class, done reason: each a length and so many bytes
//	...     count of tags, each as such a text
//	...     count of marks, each a varint
//	...     stored: seconds since 1970 and nanoseconds; TTL; prompt and output tokens;
//	        total, load, prompt and eval duration: signed varints
//	1       flags: 1 it was shared, 2 a past follows
//	        a past:
//	...     seen, changed, watched, said, source, keep: varints
//
// An entry without a past is as it was before there were any, so the version is, too.
func appendMeta(b []byte, m *Meta) []byte {
	b = append(b, m.Key[:]...)
	for _, text := range m.texts() {
		b = appendBytes(b, *text)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Tags)))
	for _, tag := range m.Tags {
		b = appendBytes(b, tag)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Marks)))
	for _, mark := range m.Marks {
		b = binary.AppendUvarint(b, mark)
	}
	t := &m.Totals
	for _, v := range [...]int64{
		m.Stored.Unix(), int64(m.Stored.Nanosecond()), int64(m.TTL), int64(t.PromptTokens), int64(t.OutputTokens),
		int64(t.Total), int64(t.Load), int64(t.Prompt), int64(t.Eval),
	} {
		b = binary.AppendVarint(b, v)
	}
	var flags byte
	if m.Shared {
		flags |= flagShared
	}
	p := m.Past
	if p == nil {
		return append(b, flags)
	}
	b = append(b, flags|flagPast)
	for _, v := range [...]uint64{
		uint64(p.Seen), uint64(p.Changed), uint64(p.Watched), p.Said, p.Source, uint64(p.Keep),
	} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// Flags at the end of a Meta.
const (
	flagShared = 1 << iota
	flagPast
)

// room is what the answer takes at most when it is encoded.
func (a *Answer) room() int {
	const perFrame = 2*binary.MaxVarintLen64 + 1
	n := len(a.Question) + len(a.ContentType) + len(a.Object) + 4*binary.MaxVarintLen64 + len(a.Frames)*perFrame
	for i := range a.Frames {
		n += len(a.Frames[i].Data)
	}
	return n
}

// What an answer is, in its encoded form.
const (
	shapeFrames = iota
	shapeObject
)

// encode appends the encoded form.
//
//	bytes   what
//	...     question: its length and so many bytes
//	1       shape: frames or an object
//	        an object:
//	...     content type, as the question
//	...     object, to the end
//	        frames:
//	varint  count
//	varint  bytes of data of all
//	...     the data as it came
//	...     lengths, a varint each
//	...     kinds, a byte each
//	...     times since the frame before, in milliseconds, a signed varint each
//
// Lengths, kinds and times lie apart, because so they compress better than in turn. Times are
// cut to milliseconds: in nanoseconds they would be a third of a compressed stream.
func (a *Answer) encode(b []byte) []byte {
	b = slices.Grow(b, a.room())
	b = appendBytes(b, a.Question)
	if len(a.Frames) == 0 && (a.Object != nil || a.ContentType != "") {
		b = append(b, shapeObject)
		b = appendBytes(b, a.ContentType)
		return append(b, a.Object...)
	}
	b = append(b, shapeFrames)
	b = binary.AppendUvarint(b, uint64(len(a.Frames)))
	total := 0
	for i := range a.Frames {
		total += len(a.Frames[i].Data)
	}
	b = binary.AppendUvarint(b, uint64(total))
	for i := range a.Frames {
		b = append(b, a.Frames[i].Data...)
	}
	for i := range a.Frames {
		b = binary.AppendUvarint(b, uint64(len(a.Frames[i].Data)))
	}
	for i := range a.Frames {
		b = append(b, byte(a.Frames[i].Kind))
	}
	var last int64
	for i := range a.Frames {
		at := a.Frames[i].At.Milliseconds()
		b = binary.AppendVarint(b, at-last)
		last = at
	}
	return b
}

// decodeAnswer reads the encoded form. The answer's bytes are those of b, which it must own.
func decodeAnswer(b, question []byte) (*Answer, error) {
	r := reader{rest: b}
	a := &Answer{Question: r.bytes()}
	shape := r.byte()
	if !r.bad && question != nil && !bytes.Equal(a.Question, question) {
		return nil, ErrOther
	}
	switch shape {
	case shapeFrames:
		a.Frames = r.frames()
	case shapeObject:
		a.ContentType = string(r.bytes())
		a.Object = r.take(uint64(len(r.rest)))
	default:
		r.bad = true
	}
	if r.bad || len(r.rest) > 0 {
		return nil, ErrCorrupt
	}
	return a, nil
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// A reader reads stored bytes, which may be anything. After a fault it gives zeros, and bad is set.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() {
	r.rest, r.bad = nil, true
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 {
		v := r.rest[0]
		r.rest = r.rest[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// take gives the next n bytes, without room to append to; nil if there are fewer.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// bytes gives what appendBytes wrote.
func (r *reader) bytes() []byte { return r.take(r.uvarint()) }

// count reads how many things follow, which is limit at most.
func (r *reader) count(limit uint64) int {
	n := r.uvarint()
	if n > limit {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) meta(m *Meta) {
	copy(m.Key[:], r.take(uint64(len(m.Key))))
	for _, text := range m.texts() {
		*text = string(r.bytes())
	}
	if n := r.count(listLimit); n > 0 {
		m.Tags = make([]string, n)
		for i := range m.Tags {
			m.Tags[i] = string(r.bytes())
		}
	}
	if n := r.count(listLimit); n > 0 {
		m.Marks = make([]uint64, n)
		for i := range m.Marks {
			m.Marks[i] = r.uvarint()
		}
	}
	seconds, nanoseconds := r.varint(), r.varint()
	if nanoseconds < 0 || nanoseconds >= int64(time.Second) {
		r.fail()
		return
	}
	m.Stored = time.Unix(seconds, nanoseconds).UTC()
	m.TTL = time.Duration(r.varint())
	t := &m.Totals
	t.PromptTokens, t.OutputTokens = int(r.varint()), int(r.varint())
	for _, d := range [...]*time.Duration{&t.Total, &t.Load, &t.Prompt, &t.Eval} {
		*d = time.Duration(r.varint())
	}
	flags := r.byte()
	m.Shared = flags&flagShared != 0
	switch {
	case flags > flagShared|flagPast:
		r.fail()
	case flags&flagPast != 0:
		m.Past = r.past()
	}
}

// past reads one that can be: whatever it is, a TTL is computed from it.
func (r *reader) past() *Past {
	seen, changed, watched := r.uvarint(), r.uvarint(), r.uvarint()
	p := &Past{Said: r.uvarint(), Source: r.uvarint()}
	keep := r.uvarint()
	if seen > mostSeen || changed > seen || watched > math.MaxInt64 || keep > uint64(DefaultMax) {
		r.fail()
	}
	if r.bad {
		return nil
	}
	p.Seen, p.Changed, p.Watched, p.Keep = uint32(seen), uint32(changed), time.Duration(watched), time.Duration(keep)
	return p
}

func (r *reader) frames() []recording.Frame {
	n := r.count(framesLimit)
	data := reader{rest: r.bytes()}
	if n > len(r.rest)/3 { // each has a length, a kind and a time
		r.fail()
	}
	if r.bad {
		return nil
	}
	frames := make([]recording.Frame, n)
	for i := range frames {
		frames[i].Data = data.take(r.uvarint())
	}
	for i, kind := range r.take(uint64(n)) {
		if wire.FrameKind(kind) > wire.Fault {
			r.fail()
			break
		}
		frames[i].Kind = wire.FrameKind(kind)
	}
	var at int64
	for i := range frames {
		at += r.varint()
		frames[i].At = time.Duration(at) * time.Millisecond
	}
	if data.bad || len(data.rest) > 0 {
		r.fail()
	}
	return frames
}
