package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"
)

var stood = strings.Repeat("0123456789abcdef", 4)

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// digest writes content in pieces of n bytes.
func digest(content []byte, n int) File {
	var d Digester
	for len(content) > 0 {
		k := min(n, len(content))
		d.Write(content[:k])
		content = content[k:]
	}
	return d.File()
}

func content(t *testing.T, f File) []byte {
	t.Helper()
	r, ok := f.Open()
	if !ok {
		t.Fatalf("file %s of %d bytes has no content", f.Digest, f.Size)
	}
	b, err := io.ReadAll(io.NewSectionReader(r, 0, f.Size))
	if err != nil || int64(len(b)) != f.Size {
		t.Fatalf("%d bytes of %d, %v", len(b), f.Size, err)
	}
	return b
}

func TestDigester_TakesAStandInAtItsWord(t *testing.T) {
	meta := []byte(`{"x":"` + strings.Repeat("y", 3000) + `"}`)
	for _, size := range []int64{200, 4000, 70_000, 3 << 20} {
		f := StandIn(stood, size, meta)
		b := content(t, f)
		for _, n := range []int{1, 7, 4096, 1 << 20} {
			if n == 1 && size > 4000 {
				continue // the parser looks at the head again with each byte
			}
			got := digest(b, n)
			if got.Digest != stood || got.Size != size || !bytes.Equal(content(t, got), b) || !bytes.Equal(got.Meta(), f.Meta()) {
				t.Errorf("size %d by %d: got %s, %d bytes", size, n, got.Digest, got.Size)
			}
		}
		if size > 4000 && !bytes.Equal(f.Meta(), meta) {
			t.Errorf("size %d: meta %q", size, f.Meta())
		}
	}
}

func TestDigester_HashesWhatIsNotWhatItSays(t *testing.T) {
	whole := content(t, StandIn(stood, 100_000, nil))
	spoilt := bytes.Clone(whole)
	spoilt[99_000] ^= 1
	early := bytes.Clone(whole)
	early[30] ^= 1
	for name, b := range map[string][]byte{
		"one bit off":     spoilt,
		"off in the head": early,
		"cut":             whole[:99_999],
		"cut in the head": whole[:50],
		"too long":        append(bytes.Clone(whole), 'x'),
		"empty":           nil,
		"short":           []byte("GG"),
		"gguf":            []byte("GGUF\x03\x00\x00\x00 something else"),
		"text":            []byte("hello blob"),
		"long":            bytes.Repeat([]byte("hello"), 1<<19),
		"long line":       append([]byte(magic+`{"stand_in":`), bytes.Repeat([]byte("5"), 3<<20)...),
	} {
		for _, n := range []int{13, 64 << 10} {
			if n == 13 && len(b) > 200_000 {
				continue
			}
			if got := digest(b, n); got.Digest != sha(b) || got.Size != int64(len(b)) {
				t.Errorf("%s by %d: got %s of %d bytes, want %s", name, n, got.Digest, got.Size, sha(b))
			}
		}
	}
}

func TestDigester_KeepsOnlyWhatIsSmall(t *testing.T) {
	small := bytes.Repeat([]byte("a"), SmallLimit)
	if b, ok := digest(small, 1000).Whole(); !ok || !bytes.Equal(b, small) {
		t.Error("a small file is not kept")
	}
	f := digest(append(small, 'b'), 1000)
	if _, ok := f.Open(); ok || len(f.Head) != headKept || cap(f.Head) > 2*headKept {
		t.Errorf("%d bytes of a large file are kept", cap(f.Head))
	}
}

func TestStandIn_TooShortToSaySo(t *testing.T) {
	for _, size := range []int64{0, 5, 90} {
		if f := StandIn(stood, size, nil); digest(content(t, f), 10).Digest == stood {
			t.Errorf("%d bytes say what they stand for", size)
		}
	}
}

func FuzzDigester(f *testing.F) {
	f.Add([]byte("hello"), 3)
	s := newStandIn(stood, 300, nil)
	b := make([]byte, 300)
	_, _ = s.ReadAt(b, 0)
	f.Add(b, 100)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			n = 1
		}
		got := digest(b, n)
		if got.Size != int64(len(b)) || got.standIn == nil && got.Digest != sha(b) {
			t.Errorf("got %s, %d bytes", got.Digest, got.Size)
		}
		if got.standIn != nil && !bytes.Equal(content(t, got), b) {
			t.Error("the content cannot be made again")
		}
	})
}
