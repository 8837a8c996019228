package recording

import (
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestAtEnd_HasTheWholeBeforeTheEndCanBeRead(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 0)
	f := follow(t, w)
	defer f.Close()
	w.Append([]byte("a"), wire.Part, false)
	told := 0
	f.AtEnd(func(all Whole, ok bool) {
		told++
		if !ok || len(all.Frames) != 2 || string(all.Frames[1].Data) != "b" {
			t.Errorf("the whole is %v", all)
		}
		select {
		case <-w.Done():
			t.Error("the end could be read before it was told")
		default:
		}
	})
	w.Append([]byte("b"), wire.Final, true)
	w.Complete()
	w.Break(errors.New("too late"))
	f.AtEnd(func(all Whole, _ bool) { told += len(all.Frames) }) // it has ended: told at once
	if told != 3 {
		t.Errorf("told %d, want once with the end and once after it", told)
	}
}

func TestAtEnd_HasAnObjectToo(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 0)
	f := follow(t, w)
	defer f.Close()
	w.Object("application/json", []byte("{}"))
	var got Whole
	f.AtEnd(func(all Whole, _ bool) { got = all })
	if want := (Whole{ContentType: "application/json", Object: []byte("{}")}); !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAtEnd_TellsOfWhatIsNotWhole(t *testing.T) {
	for name, c := range map[string]struct {
		limit int
		do    func(*Writer)
	}{
		"broke off":      {0, func(w *Writer) { w.Append([]byte("a"), wire.Part, false); w.Break(errors.New("boom")) }},
		"past its limit": {2, func(w *Writer) { w.Append([]byte("abc"), wire.Final, false); w.Complete() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := New(t.Context(), new(wire.Request), c.limit)
			f := follow(t, w)
			defer f.Close()
			told := 0
			tell := func(_ Whole, whole bool) {
				if told++; whole {
					t.Error("told that it is whole")
				}
			}
			f.AtEnd(tell)
			if told != 0 {
				t.Error("told before the end")
			}
			c.do(w)
			f.AtEnd(tell)
			if told != 2 {
				t.Errorf("told %d times, want by both", told)
			}
		})
	}
}

func TestReplay_IsReadToItsEndAtOnce(t *testing.T) {
	route := wire.Route{Path: "/api/chat"}
	f := Replay(route, Whole{Frames: []Frame{{Data: []byte("a")}, {Data: []byte("b"), Kind: wire.Final}}})
	defer f.Close()
	if of, request := f.Of(); of.Path != route.Path || request != nil {
		t.Errorf("it is of %v %v", of, request)
	}
	second, err := f.Fork()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for _, r := range []*Reader{f, second} {
		if got, err := readAll(t.Context(), r); got != "ab" || err != io.EOF {
			t.Errorf("read %q, %v", got, err)
		}
	}
	o := Replay(route, Whole{ContentType: "application/json", Object: []byte("{}")})
	defer o.Close()
	if _, body, ok := o.Object(); !ok || string(body) != "{}" {
		t.Errorf("object %q %v", body, ok)
	}
}
