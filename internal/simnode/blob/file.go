package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
)

// SmallLimit is up to how many bytes a Digester keeps a file whole.
const SmallLimit = 1 << 20

// headKept is how much of a longer file is kept, for those that look how it begins.
const headKept = 1 << 10

// A File is what is known of a file. It is immutable.
type File struct {
	Digest string // 64 hex digits
	Size   int64
	Head   []byte // the first KiB, or the whole file when Whole says so

	standIn *standIn
}

// FromBytes returns a file with that content, which must not be changed any more.
func FromBytes(content []byte) File {
	sum := sha256.Sum256(content)
	return File{Digest: hex.EncodeToString(sum[:]), Size: int64(len(content)), Head: content}
}

// StandIn returns a file of that digest, 64 hex digits, and size. It carries meta where it is long enough; one of less
// than some 100 bytes is too short to tell what it stands for, and has no content.
func StandIn(digest string, size int64, meta json.RawMessage) File {
	s := newStandIn(digest, size, meta)
	return File{Digest: digest, Size: size, Head: s.header[:min(len(s.header), headKept)], standIn: s}
}

// Meta returns what a stand-in carries, or nil.
func (f File) Meta() json.RawMessage {
	if f.standIn == nil {
		return nil
	}
	var h standInHeader
	_ = json.Unmarshal(bytes.TrimPrefix(f.standIn.header, []byte(magic)), &h) // one that is too short has none
	return h.Meta
}

// Whole returns the content of a file that was kept whole.
func (f File) Whole() (content []byte, ok bool) {
	return f.Head, f.standIn == nil && int64(len(f.Head)) == f.Size
}

// Open returns the content, unless the file was too long to be kept.
func (f File) Open() (content io.ReaderAt, ok bool) {
	if f.standIn != nil {
		return f.standIn, true
	}
	if b, ok := f.Whole(); ok {
		return bytes.NewReader(b), true
	}
	return nil, false
}

// A Digester reads a file once, from its begin to its end, and tells what is to be known of it. It holds SmallLimit
// bytes at most. The zero value is ready; it is not safe for concurrent use.
type Digester struct {
	size    int64
	head    []byte
	decided bool     // whether it is a stand-in
	standIn *standIn // nil when it is none, or not any more
	sum     hash.Hash
}

// Size is how many bytes have been written.
func (d *Digester) Size() int64 { return d.size }

// Write never fails.
func (d *Digester) Write(p []byte) (int, error) {
	before := d.size
	d.head = append(d.head, p[:min(len(p), SmallLimit-len(d.head))]...)
	d.size += int64(len(p))
	switch {
	case d.standIn != nil:
		d.follow(p, before)
	case d.decided:
		d.sum.Write(p)
	default:
		d.decide(p, before)
	}
	return len(p), nil
}

// decide finds out whether the file is a stand-in; all that came before p is in the head.
func (d *Digester) decide(p []byte, before int64) {
	s, more := parseStandIn(d.head)
	if more {
		return
	}
	d.decided, d.standIn = true, s
	if s != nil {
		d.follow(p, before)
		return
	}
	d.sum = sha256.New()
	d.sum.Write(d.head[:before])
	d.sum.Write(p)
}

// follow checks that what comes still is the stand-in. When it is not, the file is hashed as any other, after what came
// before, which can be made again.
func (d *Digester) follow(p []byte, before int64) {
	if d.standIn.matches(p, before) {
		return
	}
	d.sum = prefixSum(d.standIn, before)
	d.sum.Write(p)
	d.standIn = nil
}

func prefixSum(s *standIn, size int64) hash.Hash {
	h := sha256.New()
	_, _ = io.Copy(h, io.NewSectionReader(s, 0, size)) // neither can fail
	return h
}

// File returns what is known of all that was written. The Digester must not be used after that.
func (d *Digester) File() File {
	f := File{Size: d.size, Head: d.head}
	switch {
	case d.standIn != nil && d.size == d.standIn.size:
		return File{d.standIn.digest, d.size, d.standIn.header[:min(len(d.standIn.header), headKept)], d.standIn}
	case d.standIn != nil:
		d.sum = prefixSum(d.standIn, d.size)
	case !d.decided:
		return FromBytes(d.head)
	}
	f.Digest = hex.EncodeToString(d.sum.Sum(nil))
	if d.size > SmallLimit {
		f.Head = bytes.Clone(d.head[:headKept])
	}
	return f
}
