package cache

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

var sealTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newSealer(t testing.TB, secret string) *Sealer {
	t.Helper()
	s, err := NewSealer([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const aSecret = "a secret of a deployment"

func TestSealer_RefusesShortSecretsAndSaysHowToMakeOne(t *testing.T) {
	for _, c := range []struct {
		name   string
		secret string
		ok     bool
	}{
		{"none", "", false},
		{"a word", "letmein", false},
		{"one byte short", strings.Repeat("x", 15), false},
		{"just enough", strings.Repeat("x", 16), true},
		{"long", strings.Repeat("x", 1000), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := NewSealer([]byte(c.secret))
			if (err == nil) != c.ok || (s != nil) != c.ok {
				t.Fatalf("%v, %v; want ok: %v", s, err, c.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "openssl rand -hex 32") {
				t.Errorf("%q does not say how to make one", err)
			}
			if err != nil && c.secret != "" && strings.Contains(err.Error(), c.secret) {
				t.Errorf("%q tells the secret", err)
			}
		})
	}
}

func TestSealer_OpensWhatOneOfItsSecretSealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 16, 64).Draw(t, "secret")
		name, plain := rapid.String().Draw(t, "name"), rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		s, err := NewSealer(secret)
		if err != nil {
			t.Fatal(err)
		}
		other, _ := NewSealer(bytes.Clone(secret)) // another replica
		before := bytes.Clone(plain)
		sealed := s.Seal(name, plain, time.Time{})
		got, err := other.Open(name, sealed, sealTime)
		if err != nil || !bytes.Equal(got, before) || !bytes.Equal(plain, before) {
			t.Fatalf("%q, %v; want %q", got, err, before)
		}
	})
}

func TestSealer_OpensOnlyWhatItSealedUnderThatName(t *testing.T) {
	s := newSealer(t, aSecret)
	plain := []byte("question and answer")
	sealed := s.Seal("name", plain, sealTime.Add(time.Hour))
	changed := func(change func(b []byte) []byte) []byte { return change(slices.Clone(sealed)) }
	for _, c := range []struct {
		name   string
		sealer *Sealer
		under  string
		sealed []byte
	}{
		{"another secret", newSealer(t, aSecret+"s"), "name", sealed},
		{"a random secret", RandomSealer(), "name", sealed},
		{"another name", s, "nam", sealed},
		{"no name", s, "", sealed},
		{"nothing", s, "name", nil},
		{"the version only", s, "name", sealed[:1]},
		{"another version", s, "name", changed(func(b []byte) []byte { b[0]++; return b })},
		{"plain text", s, "name", append([]byte{sealVersion}, bytes.Repeat(plain, 5)...)},
		{"twice the same", s, "name", append(slices.Clone(sealed), sealed...)},
		{"the nonce of another", s, "name", changed(func(b []byte) []byte {
			copy(b[1:13], s.Seal("name", plain, sealTime)[1:13])
			return b
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := c.sealer.Open(c.under, c.sealed, sealTime); got != nil || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%q, %v; want %v", got, err, ErrCorrupt)
			}
		})
	}
	if got, err := s.Open("name", sealed, sealTime); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%q, %v; want %q", got, err, plain)
	}
}

// The expiry is among these bytes: there is no way to prolong what was sealed.
func TestSealer_NoticesEachByteChangedLostOrAdded(t *testing.T) {
	s := newSealer(t, aSecret)
	sealed := s.Seal("name", []byte("question and answer"), sealTime.Add(time.Hour))
	for i := range sealed {
		for bit := range 8 {
			b := slices.Clone(sealed)
			b[i] ^= 1 << bit
			if _, err := s.Open("name", b, sealTime); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, err)
			}
		}
		for what, b := range map[string][]byte{
			"cut": sealed[:i], "its begin cut": sealed[i+1:], "without one": slices.Delete(slices.Clone(sealed), i, i+1),
			"with one more": slices.Insert(slices.Clone(sealed), i, 0), "prolonged": append(slices.Clone(sealed), sealed[:i+1]...),
		} {
			if _, err := s.Open("name", b, sealTime); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s at %d: %v", what, i, err)
			}
		}
	}
}

func TestSealer_ClosesWhenItsTimeIsOver(t *testing.T) {
	s := newSealer(t, aSecret)
	for _, c := range []struct {
		name    string
		expires time.Time
		now     time.Time
		want    error
	}{
		{"before", sealTime, sealTime.Add(-time.Millisecond), nil},
		{"at that time", sealTime, sealTime, ErrExpired},
		{"after", sealTime, sealTime.Add(time.Hour), ErrExpired},
		{"elsewhere before", sealTime, sealTime.Add(-time.Millisecond).In(time.FixedZone("", 3600)), nil},
		{"never", time.Time{}, sealTime.AddDate(200, 0, 0), nil},
		{"in the first second of 1970", time.UnixMilli(0), sealTime, ErrExpired},
		{"long ago", time.Unix(-1<<40, 0), sealTime, ErrExpired},
		{"far away", sealTime.AddDate(100_000, 0, 0), sealTime, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.Open("name", s.Seal("name", []byte("x"), c.expires), c.now)
			if !errors.Is(err, c.want) || (got == nil) != (c.want != nil) {
				t.Errorf("%q, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestSealer_NeverSealsTheSameWay(t *testing.T) {
	s := newSealer(t, aSecret)
	nonces := map[string]bool{}
	for range 1000 {
		nonces[string(s.Seal("name", []byte("x"), time.Time{})[1:13])] = true
	}
	if len(nonces) != 1000 {
		t.Errorf("%d nonces of 1000", len(nonces))
	}
}

func TestSealer_ShowsNothingOfWhatItSeals(t *testing.T) {
	s := newSealer(t, aSecret)
	plain := bytes.Repeat([]byte("question"), 100)
	sealed := s.Seal("name", plain, sealTime)
	if bytes.Contains(sealed, []byte("question")) || bytes.Contains(sealed, []byte("name")) {
		t.Error("plain text is seen")
	}
	if most := len(plain) + 64; len(sealed) > most {
		t.Errorf("%d bytes sealed to %d, want %d at most", len(plain), len(sealed), most)
	}
}

func TestSealer_NamesDifferWhereThingsDo(t *testing.T) {
	s := newSealer(t, aSecret)
	names := map[string]string{}
	for _, c := range []struct {
		what string
		name string
	}{
		{"a kind", s.Name("tag")},
		{"an empty part", s.Name("tag", "")},
		{"two empty parts", s.Name("tag", "", "")},
		{"a part", s.Name("tag", "ab")},
		{"the part in two", s.Name("tag", "a", "b")},
		{"another order", s.Name("tag", "b", "a")},
		{"cut elsewhere", s.Name("ta", "gab")},
		{"another kind", s.Name("tenant", "ab")},
		{"a part that looks like a frame", s.Name("tag", "a\x01b")},
		{"another secret", newSealer(t, aSecret+"s").Name("tag", "ab")},
		{"a random secret", RandomSealer().Name("tag", "ab")},
		{"another random secret", RandomSealer().Name("tag", "ab")},
		{"a key", s.KeyName(call.Key{1})},
		{"another key", s.KeyName(call.Key{2})},
	} {
		if other, ok := names[c.name]; ok {
			t.Errorf("%s has the name of %s", c.what, other)
		}
		names[c.name] = c.what
		if raw, err := base64.RawURLEncoding.DecodeString(c.name); err != nil || len(raw) != 32 {
			t.Errorf("%s: %q, want 256 bits in the alphabet of URLs", c.what, c.name)
		}
	}
	if s.Name("tag", "ab") != newSealer(t, aSecret).Name("tag", "ab") {
		t.Error("two sealers of one secret name a thing differently")
	}
}

// Both lie in Redis while gateways of two versions share it.
func TestSealer_NamesAndSealsStayAsTheyAre(t *testing.T) {
	const name, sealed = "P_C1zftYST37F9VN_AIXLm8kqoUUZphh_AaXQeYPvrw", "AbFh1N7dNPuL4Zl7Lh6tLNa9hgjlcjaEgAVhRPgWxeWCr9pUXbHx7foO"
	s := newSealer(t, aSecret)
	if got := s.KeyName(call.Key{1, 2, 3}); got != name {
		t.Errorf("%s, want %s", got, name)
	}
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open("name", raw, sealTime); err != nil || string(got) != "plain" {
		t.Errorf("%q, %v; want plain", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	s := newSealer(f, aSecret)
	good := s.Seal("name", []byte("question and answer"), time.Time{})
	f.Add("name", good)
	f.Add("other", good)
	f.Add("name", good[:20])
	f.Add("", []byte{sealVersion})
	f.Fuzz(func(t *testing.T, name string, sealed []byte) {
		got, err := s.Open(name, sealed, sealTime)
		switch {
		case err == nil && name == "name" && string(got) == "question and answer": // the seed itself
		case err != nil && errors.Is(err, ErrCorrupt) && got == nil:
		default:
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func BenchmarkSealer(b *testing.B) {
	s := newSealer(b, aSecret)
	plain := make([]byte, 4<<10)
	sealed := s.Seal("name", plain, time.Time{})
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Seal("name", plain, time.Time{})
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Open("name", sealed, sealTime); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("name", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.KeyName(call.Key{1})
		}
	})
}
