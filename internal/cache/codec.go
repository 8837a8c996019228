package cache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/klauspost/compress/zstd"
)

const (
	// formatVersion is the first byte of the stored form. Entries of another version are a miss:
	// raise it with each change of the layout.
	formatVersion = 1

	// compressAbove is the size in bytes above which compression is tried. Below it saves less
	// than the entry costs beside its payload.
	compressAbove = 1 << 10
	// compressAtOnce is the size above which that is done when an answer is stored. To compress one
	// of a few words costs a tenth of all that a gateway does for it, and most are never asked for
	// again: these are compressed when they are, or when they leave the process.
	compressAtOnce = 4 << 10

	// decodedLimit bounds an answer when it is opened, in bytes, whatever the entry says of
	// itself: sixteen times what a recording keeps by default.
	decodedLimit = 64 << 20
	// framesLimit bounds the frames of an answer. An opened one takes 40 bytes beside its data,
	// so that they take less than decodedLimit, too.
	framesLimit = 1 << 20

	// entryOverhead is what an entry takes beside itself and what it points to: the node and the
	// slot of the map that hold it, and the rounding of small allocations.
	entryOverhead = 256
)

var (
	// ErrCorrupt says that a stored answer is not sound, or not one of ours. It is a miss, and
	// what was stored is to be deleted.
	ErrCorrupt = errors.New("stored answer is not sound")
	// ErrOther says that an answer is that of another question: two questions share a key, or
	// the entry lies under the wrong one.
	ErrOther = errors.New("stored answer is that of another question")
	// ErrTooLarge says that an answer is too large to be stored.
	ErrTooLarge = errors.New("answer too large to be stored")
)

// An Entry is an answer as it is stored, and what is known of it. It is never changed and safe
// for concurrent use.
type Entry struct {
	Meta Meta
	// payload is the answer, encoded, compressed if that is worth it; see the table at pack.
	// Empty: the answer was too large.
	payload []byte
	tight   bool // it has been tried to compress it

	single *single // the single answer that it makes, where it was asked for; in memory only
}

// NewEntry encodes an answer and compresses it if it is above 4 KiB and becomes smaller by it.
// It copies all that it keeps. Of an answer that Fits refuses, the entry is one that no store
// takes and that opens as ErrCorrupt.
func NewEntry(m Meta, a Answer) *Entry {
	e := &Entry{Meta: m}
	e.Meta.Tags = slices.Clone(m.Tags)
	for i, tag := range e.Meta.Tags {
		e.Meta.Tags[i] = strings.Clone(tag) // it is a part of a whole header
	}
	e.Meta.Marks = slices.Clone(m.Marks)
	if a.Fits() == nil {
		s := scratches.Get().(*scratch)
		s.encoded = a.encode(s.encoded[:0])
		e.payload = s.pack(compressAtOnce)
		e.tight = len(s.encoded) > compressAtOnce
		s.release()
	}
	return e
}

// squeezed gives the entry compressed, if it is above 1 KiB and becomes smaller by it: itself if
// that has been tried.
func (e *Entry) squeezed() *Entry {
	p, ok := split(e.payload)
	if e.tight || !ok || p.form != formPlain || len(p.content) <= compressAbove {
		return e
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.encoded = append(s.encoded[:0], p.content...)
	tight := *e
	tight.payload, tight.tight = s.pack(compressAbove), true
	return &tight
}

// A scratch is what it takes to encode an answer, so that only what is kept is made anew.
type scratch struct{ encoded, packed []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// scratchLimit bounds what is kept of it for the next one, in bytes.
const scratchLimit = 256 << 10

func (s *scratch) release() {
	if cap(s.encoded)+cap(s.packed) <= scratchLimit {
		scratches.Put(s)
	}
}

// Fits gives ErrTooLarge for an answer of more than 64 MiB, encoded but not compressed, or of
// more than 1,048,576 frames, and else nil.
func (a *Answer) Fits() error {
	if a.room() > decodedLimit || len(a.Frames) > framesLimit {
		return ErrTooLarge
	}
	return nil
}

// Answer opens the entry. What it returns is the caller's and shares one buffer; the times of
// frames are cut to milliseconds. It returns ErrOther if the answer is not that of question, byte
// for byte (nil: any will do), and ErrCorrupt if the entry is not sound.
func (e *Entry) Answer(question []byte) (*Answer, error) {
	encoded, err := unpack(e.payload)
	if err != nil {
		return nil, err
	}
	return decodeAnswer(encoded, question)
}

// Size is what the entry takes in memory, in bytes, with its share of the map that holds it.
func (e *Entry) Size() int {
	// The allocator rounds up, and the capacity tells by how much.
	n := int(unsafe.Sizeof(*e)) + entryOverhead + cap(e.payload)
	m := &e.Meta
	n += len(m.Route) + len(m.Model) + len(m.Identity) + len(m.Version) + len(m.Tenant) +
		len(m.Rule) + len(m.Class) + len(m.Totals.DoneReason)
	n += cap(m.Tags)*int(unsafe.Sizeof("")) + cap(m.Marks)*int(unsafe.Sizeof(uint64(0)))
	for _, tag := range m.Tags {
		n += len(tag)
	}
	if m.Past != nil {
		n += int(unsafe.Sizeof(*m.Past))
	}
	return n + e.single.size()
}

// Marshal gives the stored form of the entry, to be sealed before it leaves the process.
//
//	bytes   what
//	1       version of the format
//	4       CRC-32C of all that follows, little-endian
//	varint  length of the meta
//	...     meta, see appendMeta
//	...     payload, to the end; see pack
func (e *Entry) Marshal() []byte {
	meta := appendMeta(nil, &e.Meta)
	b := make([]byte, 1+4, 1+4+binary.MaxVarintLen64+len(meta)+len(e.payload))
	b[0] = formatVersion
	b = appendBytes(b, meta)
	b = append(b, e.payload...)
	binary.LittleEndian.PutUint32(b[1:], checksum(b[5:]))
	return b
}

// Unmarshal reads what Marshal gave. It returns ErrCorrupt for anything else: another version,
// a byte changed, lost or added. It keeps nothing of b and allocates no more than that takes.
func Unmarshal(b []byte) (*Entry, error) {
	if len(b) < 1+4 || b[0] != formatVersion || binary.LittleEndian.Uint32(b[1:]) != checksum(b[5:]) {
		return nil, ErrCorrupt
	}
	r := reader{rest: b[5:]}
	meta := reader{rest: r.bytes()}
	e := new(Entry)
	meta.meta(&e.Meta)
	if r.bad || meta.bad || len(meta.rest) > 0 {
		return nil, ErrCorrupt
	}
	if _, ok := split(r.rest); !ok {
		return nil, ErrCorrupt
	}
	e.payload = append([]byte(nil), r.rest...)
	return e, nil
}

// How the encoded answer lies in a payload.
const (
	formPlain = iota
	formZstd
)

// A parcel is a payload taken apart.
type parcel struct {
	form    byte
	sum     uint32 // of the encoded answer
	size    int    // of the encoded answer in bytes, decodedLimit at most
	content []byte
}

// pack makes a payload of the encoded answer, compressed if it has more bytes than above.
//
//	bytes   what
//	1       form: plain or zstd
//	4       CRC-32C of the encoded answer, little-endian
//	varint  its size
//	...     the encoded answer in that form, to the end
func (s *scratch) pack(above int) []byte {
	encoded := s.encoded
	var head [1 + 4 + binary.MaxVarintLen64]byte
	binary.LittleEndian.PutUint32(head[1:], checksum(encoded))
	n := 5 + binary.PutUvarint(head[5:], uint64(len(encoded)))
	content := encoded
	if len(encoded) > above {
		if s.packed = encoder().EncodeAll(encoded, s.packed[:0]); len(s.packed) < len(encoded) {
			head[0], content = formZstd, s.packed
		}
	}
	// What is kept is a copy of the right size: the buffers above have room to spare. Grow rounds
	// as the allocator does, so that Size knows.
	payload := slices.Grow([]byte(nil), n+len(content))
	return append(append(payload, head[:n]...), content...)
}

// split takes a payload apart. It does not look at the content.
func split(payload []byte) (parcel, bool) {
	r := reader{rest: payload}
	p := parcel{form: r.byte()}
	if sum := r.take(4); sum != nil {
		p.sum = binary.LittleEndian.Uint32(sum)
	}
	size := r.uvarint()
	if r.bad || p.form > formZstd || size > decodedLimit || p.form == formPlain && size != uint64(len(r.rest)) {
		return parcel{}, false
	}
	p.size, p.content = int(size), r.rest
	return p, true
}

// unpack gives the encoded answer, in a buffer of its own.
func unpack(payload []byte) ([]byte, error) {
	p, ok := split(payload)
	if !ok {
		return nil, ErrCorrupt
	}
	encoded := make([]byte, 0, p.size)
	if p.form == formPlain {
		encoded = append(encoded, p.content...)
	} else {
		var err error
		if encoded, err = decoder().DecodeAll(p.content, encoded); err != nil {
			return nil, ErrCorrupt
		}
	}
	if len(encoded) != p.size || checksum(encoded) != p.sum {
		return nil, ErrCorrupt
	}
	return encoded, nil
}

// encoder and decoder are shared by all entries and run on the goroutine that calls. The
// checksums of zstd are off in favour of ours, which cover what is not compressed, too.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(1<<20)) // more than nearly all answers, a quarter of the default's memory
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.IgnoreChecksum(true),
			zstd.WithDecoderMaxMemory(decodedLimit), zstd.WithDecoderMaxWindow(decodedLimit),
			zstd.WithDecodeAllCapLimit(true)) // never more than the payload says, see unpack
		if err != nil {
			panic(err)
		}
		return d
	})
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum finds accidents: hardware, a fault of ours. Who could mean it is kept out by the seal.
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
