package cache

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func FuzzUnmarshal(f *testing.F) {
	for _, a := range []Answer{sampleStream(3), sampleStream(40), {Question: []byte("q"), ContentType: "application/json", Object: []byte("{}")}} {
		f.Add(NewEntry(sampleMeta(), a).Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		try := func(b []byte) {
			e, err := Unmarshal(b)
			if err != nil {
				if e != nil || !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%v, %v", e, err)
				}
				return
			}
			again, err := Unmarshal(e.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			sameMeta(t, again.Meta, e.Meta)
			if a, err := e.Answer(nil); err == nil {
				sameAnswer(t, a, mustOpen(t, again))
				sameAnswer(t, a, mustOpen(t, NewEntry(e.Meta, *a)))
			}
		}
		try(b)
		if len(b) > 5 { // and what lies behind the checksum
			b = slices.Clone(b)
			b[0] = formatVersion
			sum := checksum(b[5:])
			b[1], b[2], b[3], b[4] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
			try(b)
		}
	})
}

func mustOpen(t testing.TB, e *Entry) *Answer {
	t.Helper()
	a, err := e.Answer(nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// FuzzAnswer reads what lies behind the checksum of a payload.
func FuzzAnswer(f *testing.F) {
	for _, a := range []Answer{{}, sampleStream(3), sampleStream(40), {Question: []byte("q"), ContentType: "application/json", Object: []byte("{}")}} {
		f.Add(a.encode(nil), 0)
		f.Add(encoder().EncodeAll(a.encode(nil), nil), len(a.encode(nil)))
	}
	f.Fuzz(func(t *testing.T, content []byte, size int) {
		payload := lie(formPlain, 0, content)
		if size > 0 {
			payload = lie(formZstd, size&(1<<20-1)+1, content)
			// The checksum is that of what comes out, which a fuzzer does not guess.
			if out, err := decoder().DecodeAll(content, make([]byte, 0, size&(1<<20-1)+1)); err == nil {
				sum := checksum(out)
				copy(payload[1:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
			}
		}
		a, err := (&Entry{payload: payload}).Answer(nil)
		if err != nil {
			if a != nil || !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v, %v", a, err)
			}
			return
		}
		sameAnswer(t, mustOpen(t, NewEntry(Meta{}, *a)), a)
	})
}

func FuzzDamage(f *testing.F) {
	f.Add([]byte("question"), []byte("data\n"), uint16(3), byte(1), uint16(math.MaxUint16), []byte(nil))
	f.Add([]byte("question"), bytes.Repeat([]byte("data\n"), 1000), uint16(200), byte(0x80), uint16(300), []byte("more"))
	f.Fuzz(func(t *testing.T, question, data []byte, at uint16, change byte, cut uint16, more []byte) {
		want := Answer{Question: question, Frames: []recording.Frame{{Data: data}, {Data: data, At: time.Second, Kind: wire.Final}}}
		good := NewEntry(sampleMeta(), want)
		check := func(e *Entry, err error) {
			var a *Answer
			if err == nil {
				a, err = e.Answer(nil)
			}
			if err == nil {
				sameAnswer(t, a, &want)
				sameMeta(t, e.Meta, good.Meta)
			} else if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		}
		damage := func(b []byte) []byte {
			b = slices.Clone(b[:min(len(b), int(cut))])
			if int(at) < len(b) {
				b[at] ^= change
			}
			return append(b, more...)
		}
		check(Unmarshal(damage(good.Marshal())))
		check(&Entry{Meta: good.Meta, payload: damage(good.payload)}, nil)
	})
}

// lie makes a payload of content whose checksum holds. size 0: that of the content.
func lie(form byte, size int, content []byte) []byte {
	if size == 0 {
		size = len(content)
	}
	sum := checksum(content)
	b := []byte{form, byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)}
	for v := uint(size); ; v >>= 7 {
		if v < 0x80 {
			b = append(b, byte(v))
			break
		}
		b = append(b, byte(v)|0x80)
	}
	return append(b, content...)
}
