package cache

import (
	"bytes"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// sampleStream is what a native chat answers, in so many frames of some 100 bytes.
func sampleStream(frames int) Answer {
	words := strings.Fields("the gateway keeps an answer as it came and gives it again to who asks the same, with each frame whole")
	random := rand.New(rand.NewPCG(1, 2))
	a := Answer{Question: []byte(`{"model":"llama3.2:latest","messages":[{"role":"user","content":"Tell me how a gateway keeps an answer."}],"options":{"temperature":0}}`)}
	at := 200 * time.Millisecond
	for range frames - 1 {
		at += 20*time.Millisecond + time.Duration(random.IntN(1_000_000))
		a.Frames = append(a.Frames, recording.Frame{At: at, Data: fmt.Appendf(nil,
			`{"model":"llama3.2","created_at":"2026-03-01T12:00:%09.6fZ","message":{"role":"assistant","content":" %s"},"done":false}`+"\n",
			at.Seconds(), words[random.IntN(len(words))])})
	}
	a.Frames = append(a.Frames, recording.Frame{At: at + time.Millisecond, Kind: wire.Final, Data: []byte(
		`{"model":"llama3.2","created_at":"2026-03-01T12:00:09Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":6000000000,"eval_count":300}` + "\n")})
	return a
}

func sampleMeta() Meta {
	return Meta{
		Key: [32]byte{1, 2, 3}, Route: "/api/chat", Model: "registry.ollama.ai/library/llama3.2:latest", Identity: strings.Repeat("ab", 32),
		Version: "0.13.1", Tenant: "t", Tags: []string{"blog", "post-7"}, Marks: []uint64{3, 0, 1 << 40},
		Stored: time.Date(2026, 3, 1, 12, 0, 9, 5, time.UTC), TTL: time.Hour, Rule: "ttl 1h", Class: "deterministic",
		Totals: wire.Totals{PromptTokens: 20, OutputTokens: 300, Total: 6 * time.Second, Eval: 5 * time.Second, DoneReason: "stop"},
	}
}

// sameAnswer compares answers, times to the millisecond; no frames and an empty list of them are
// the same.
func sameAnswer(t rapid.TB, got, want *Answer) {
	t.Helper()
	if !bytes.Equal(got.Question, want.Question) || got.ContentType != want.ContentType || !bytes.Equal(got.Object, want.Object) {
		t.Fatalf("got %q %q %q, want %q %q %q", got.Question, got.ContentType, got.Object, want.Question, want.ContentType, want.Object)
	}
	if (got.Object == nil) != (want.Object == nil && want.ContentType == "") {
		t.Fatalf("got object %v, want %v", got.Object, want.Object)
	}
	if !slices.EqualFunc(got.Frames, want.Frames, sameFrame) {
		t.Fatalf("got frames %v, want %v", got.Frames, want.Frames)
	}
}

func sameFrame(a, b recording.Frame) bool {
	return bytes.Equal(a.Data, b.Data) && a.At.Milliseconds() == b.At.Milliseconds() && a.Kind == b.Kind
}

var (
	someBytes    = rapid.SliceOfN(rapid.Byte(), 0, 3000)
	someDuration = rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "d")) })
	anAnswer     = rapid.Custom(func(t *rapid.T) Answer {
		// Runs of one byte compress, random ones do not.
		text := rapid.OneOf(someBytes, rapid.Map(rapid.IntRange(0, 5000), func(n int) []byte { return bytes.Repeat([]byte("x"), n) }))
		a := Answer{Question: text.Draw(t, "question")}
		if rapid.Bool().Draw(t, "object") {
			a.ContentType, a.Object = rapid.String().Draw(t, "content type"), text.Draw(t, "object")
			return a
		}
		a.Frames = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) recording.Frame {
			return recording.Frame{
				Data: text.Draw(t, "data"), At: someDuration.Draw(t, "at"),
				Kind: wire.FrameKind(rapid.IntRange(int(wire.Part), int(wire.Fault)).Draw(t, "kind")),
			}
		}), 0, 20).Draw(t, "frames")
		return a
	})
	aMeta = rapid.Custom(func(t *rapid.T) Meta {
		m := Meta{
			Tags:  rapid.SliceOfN(rapid.String(), 0, 8).Draw(t, "tags"),
			Marks: rapid.SliceOfN(rapid.Uint64(), 0, 12).Draw(t, "marks"),
			Stored: time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).
				Draw(t, "nanoseconds")),
			TTL: someDuration.Draw(t, "ttl"), Shared: rapid.Bool().Draw(t, "shared"),
			Totals: wire.Totals{
				PromptTokens: rapid.Int().Draw(t, "prompt tokens"), OutputTokens: rapid.Int().Draw(t, "output tokens"),
				Total: someDuration.Draw(t, "total"), Load: someDuration.Draw(t, "load"),
				Prompt: someDuration.Draw(t, "prompt"), Eval: someDuration.Draw(t, "eval"),
			},
		}
		copy(m.Key[:], rapid.SliceOfN(rapid.Byte(), len(m.Key), len(m.Key)).Draw(t, "key"))
		for _, text := range m.texts() {
			*text = rapid.String().Draw(t, "text")
		}
		return m
	})
)

// sameMeta compares all fields; the time zone is not one.
func sameMeta(t rapid.TB, got, want Meta) {
	t.Helper()
	if !got.Stored.Equal(want.Stored) {
		t.Fatalf("stored %v, want %v", got.Stored, want.Stored)
	}
	got.Stored, want.Stored = time.Time{}, time.Time{}
	if len(want.Tags) == 0 {
		got.Tags, want.Tags = nil, nil
	}
	if len(want.Marks) == 0 {
		got.Marks, want.Marks = nil, nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestEntry_ComesBackAsItWasStored(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, a := aMeta.Draw(rt, "meta"), anAnswer.Draw(rt, "answer")
		e := NewEntry(m, a)
		far, err := Unmarshal(e.Marshal())
		if err != nil {
			rt.Fatal(err)
		}
		for _, e := range []*Entry{e, far} {
			got, err := e.Answer(a.Question)
			if err != nil {
				rt.Fatal(err)
			}
			sameAnswer(rt, got, &a)
			sameMeta(rt, e.Meta, m)
		}
	})
}

func TestEntry_KeepsNothingOfTheCallers(t *testing.T) {
	a, m := sampleStream(20), sampleMeta()
	tags := []string{"blog", "post-7"}
	m.Tags = tags
	e := NewEntry(m, a)
	b := e.Marshal()
	far, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	tags[0] = "changed"
	m.Marks[0]++
	for _, piece := range [][]byte{a.Question, a.Frames[0].Data, b} {
		clear(piece)
	}
	want := sampleStream(20)
	for _, e := range []*Entry{e, far} {
		got, err := e.Answer(nil)
		if err != nil {
			t.Fatal(err)
		}
		sameAnswer(t, got, &want)
		sameMeta(t, e.Meta, sampleMeta())
		_ = append(got.Frames[0].Data, "grown"...) // must not reach the next frame
		sameAnswer(t, got, &want)
	}
}

func TestEntry_GivesTheAnswerToItsOwnQuestionOnly(t *testing.T) {
	long := strings.Repeat("How long is a long question? ", 20_000)
	for _, c := range []struct {
		name          string
		stored, asked string
		want          error
	}{
		{"the same", "q", "q", nil},
		{"another", "q", "r", ErrOther},
		{"its beginning", "question", "quest", ErrOther},
		{"an empty one", "q", "", ErrOther},
		{"long, the same", long, long, nil},
		{"long, another end", long + "a", long + "b", ErrOther},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := NewEntry(Meta{}, Answer{Question: []byte(c.stored), Frames: sampleStream(2).Frames})
			a, err := e.Answer([]byte(c.asked))
			if !errors.Is(err, c.want) || (a == nil) != (c.want != nil) {
				t.Errorf("%v, %v; want %v", a, err, c.want)
			}
		})
	}
}

func TestEntry_IsCompressedOnlyWhereThatGains(t *testing.T) {
	for _, c := range []struct {
		name   string
		object []byte
		packed bool
	}{
		{"short", bytes.Repeat([]byte("a"), 500), false},
		{"long", bytes.Repeat([]byte("a"), 5000), true},
		{"noise", noise(20_000), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := NewEntry(Meta{}, Answer{Object: c.object})
			if packed := e.payload[0] == formZstd; packed != c.packed {
				t.Errorf("compressed %v, want %v", packed, c.packed)
			}
			if most := len(c.object) + 32; len(e.payload) > most {
				t.Errorf("payload of %d bytes, want %d at most", len(e.payload), most)
			}
		})
	}
	if e := NewEntry(sampleMeta(), sampleStream(300)); len(e.payload) > 6000 {
		t.Errorf("a stream of 300 frames takes %d bytes, want a fifth of its 33,000", len(e.payload))
	}
}

func TestEntry_TooLargeIsRefusedAndNeverOpens(t *testing.T) {
	for _, c := range []struct {
		name string
		a    Answer
		want error
	}{
		{"as large as it may be", Answer{Object: make([]byte, decodedLimit-1000)}, nil},
		{"one large object", Answer{Object: make([]byte, decodedLimit)}, ErrTooLarge},
		{"a long question", Answer{Question: make([]byte, decodedLimit)}, ErrTooLarge},
		{"many frames", Answer{Frames: make([]recording.Frame, framesLimit+1)}, ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.a.Fits(); !errors.Is(err, c.want) {
				t.Errorf("Fits: %v, want %v", err, c.want)
			}
			e := NewEntry(Meta{}, c.a)
			_, err := e.Answer(nil)
			_, far := Unmarshal(e.Marshal())
			if want := c.want != nil; errors.Is(err, ErrCorrupt) != want || errors.Is(far, ErrCorrupt) != want {
				t.Errorf("opened: %v, read: %v; want corrupt: %v", err, far, want)
			}
		})
	}
}

// What an entry says of itself costs no memory before it is found to be a lie.
func TestEntry_ALieCostsLittleMemory(t *testing.T) {
	zeros := encoder().EncodeAll(make([]byte, 4*framesLimit), nil)
	frames := (&Answer{Frames: make([]recording.Frame, 3)}).encode(nil)
	for _, c := range []struct {
		name    string
		payload []byte
		most    uint64
	}{
		{"a size beyond the limit", lie(formZstd, decodedLimit+1, zeros), 1 << 10},
		{"more than it says", lie(formZstd, 5000, zeros), 16 << 10},
		{"a count beyond its bytes", lie(formPlain, 0, []byte{0, shapeFrames, 0xff, 0xff, 0x3f, 0}), 1 << 10},
		{"a count beyond all", lie(formPlain, 0, append(slices.Clone(frames[:2]), bytes.Repeat([]byte{0xff}, 9)...)), 1 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _ = NewEntry(Meta{}, sampleStream(300)).Answer(nil) // the decoder makes its own buffers once
			e := &Entry{payload: c.payload}
			const times = 100
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range times {
				if _, err := e.Answer(nil); !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			if got := (after.TotalAlloc - before.TotalAlloc) / times; got > c.most {
				t.Errorf("%d bytes allocated, want %d at most", got, c.most)
			}
		})
	}
}

func TestUnmarshal_RefusesWhatWasNotMarshalled(t *testing.T) {
	good := NewEntry(sampleMeta(), sampleStream(20)).Marshal()
	sign := func(b []byte) []byte {
		sum := checksum(b[5:])
		for i := range 4 {
			b[1+i] = byte(sum >> (8 * i))
		}
		return b
	}
	with := func(change func(b []byte) []byte) []byte { return change(slices.Clone(good)) }
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"the version only", []byte{formatVersion}},
		{"no meta", sign([]byte{formatVersion, 0, 0, 0, 0})},
		{"another version", with(func(b []byte) []byte { b[0]++; return b })},
		{"an empty meta", sign([]byte{formatVersion, 0, 0, 0, 0, 0})},
		{"a meta that is cut", with(func(b []byte) []byte { b[5], b[6] = 0x80|40, 0; return sign(b) })},
		{"no payload", with(func(b []byte) []byte { return sign(b[:len(b)-len(NewEntry(Meta{}, sampleStream(20)).payload)]) })},
		{"a form of later", with(func(b []byte) []byte {
			b[len(b)-len(NewEntry(Meta{}, sampleStream(20)).payload)] = 7
			return sign(b)
		})},
		{"junk", []byte(strings.Repeat("junk", 100))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e, err := Unmarshal(c.b); e != nil || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v, %v; want %v", e, err, ErrCorrupt)
			}
		})
	}
}

func TestUnmarshal_NoticesEachChangedByte(t *testing.T) {
	good := NewEntry(sampleMeta(), sampleStream(30)).Marshal()
	for i := range good {
		for bit := range 8 {
			b := slices.Clone(good)
			b[i] ^= 1 << bit
			if _, err := Unmarshal(b); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, err)
			}
		}
		if _, err := Unmarshal(good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
		if _, err := Unmarshal(append(slices.Clone(good), good[:i+1]...)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d bytes added: %v", i+1, err)
		}
	}
}

// Memory can fail, too: there an entry has no checksum but that of its answer.
func TestEntry_NoticesEachByteChangedInMemory(t *testing.T) {
	for name, want := range map[string]Answer{"compressed": sampleStream(30), "plain": sampleStream(2)} {
		good := NewEntry(Meta{}, want)
		for i := range good.payload {
			for _, change := range []byte{1, 0x80, 0xff} {
				e := &Entry{payload: slices.Clone(good.payload)}
				e.payload[i] ^= change
				got, err := e.Answer(nil)
				if err == nil {
					sameAnswer(t, got, &want)
				} else if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s, byte %d ^ %#x: %v", name, i, change, err)
				}
			}
		}
	}
}

func TestEntry_SizeCountsWhatItPointsTo(t *testing.T) {
	small := NewEntry(Meta{}, Answer{Object: []byte("x")}).Size()
	if small > 1024 {
		t.Errorf("the smallest entry takes %d bytes", small)
	}
	for _, c := range []struct {
		name string
		e    *Entry
		more int
	}{
		{"an answer", NewEntry(Meta{}, Answer{Object: noise(900)}), 900},
		{"texts", NewEntry(Meta{Model: strings.Repeat("m", 300), Tenant: strings.Repeat("t", 70)}, Answer{Object: []byte("x")}), 370},
		{"tags", NewEntry(Meta{Tags: []string{"a", strings.Repeat("b", 64)}}, Answer{Object: []byte("x")}), 65 + 32},
		{"marks", NewEntry(Meta{Marks: make([]uint64, 12)}, Answer{Object: []byte("x")}), 96},
	} {
		if got := c.e.Size() - small; got < c.more-1 || got > c.more+c.more/4+16 {
			t.Errorf("%s: %d bytes more, want some %d", c.name, got, c.more)
		}
	}
}

// noise does not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = crand.Read(b)
	return b
}

func BenchmarkEntry(b *testing.B) {
	for _, frames := range []int{20, 300} {
		a, m := sampleStream(frames), sampleMeta()
		e := NewEntry(m, a)
		stored := e.Marshal()
		b.Run(fmt.Sprintf("frames=%d/store", frames), func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(e.Size()), "bytes/entry")
			for b.Loop() {
				NewEntry(m, a)
			}
		})
		b.Run(fmt.Sprintf("frames=%d/open", frames), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(a.encode(nil))))
			for b.Loop() {
				if _, err := e.Answer(a.Question); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("frames=%d/unmarshal", frames), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Unmarshal(stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
