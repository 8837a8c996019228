package wire

import (
	"bytes"
	"slices"
	"testing"
)

// textRoutes are the routes whose recordings are told.
var textRoutes = []string{"/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/embed"}

// FuzzRetell tells arbitrary frames: it never panics, changes no frame and, where a Judge passed
// them, tells frames that a Judge passes as what they are told to be. Told back with the old
// model and ids they are the old bytes.
func FuzzRetell(f *testing.F) {
	for _, rec := range wholeStreams(f) {
		route := routeOfRecord(f, rec)
		frames := framesOf(f, rec.Response.Body, route.Dialect)
		if len(frames) > 8 { // what is between is more of the same
			frames = slices.Concat(frames[:4], frames[len(frames)-4:])
		}
		f.Add(uint8(slices.Index(textRoutes, route.Path)), bytes.Join(frames, nil), "tiny")
	}
	f.Add(uint8(len(textRoutes)), []byte(`{"model":"m","created_at":"2026-11-23T13:02:23.24Z","message":{"content":"a","thinking":"t","tool_calls":[{"id":"x","function":{"index":0,"name":"f","arguments":{"a":[1]}}}]},"done":true,"done_reason":"x","logprobs":[{}]}`), "<\u2028\xff")
	f.Add(uint8(2), []byte("data: {\"id\":\"1\",\ndata: \"model\":\"m\",\"choices\":[]}\n\n"), "m")
	f.Add(uint8(4), []byte("data: {\"item\":[{\"id\":\"a_1\"}],\"item_id\":\"a_1\",\"type\":\"x\"}\n\n"), "m")
	f.Fuzz(func(t *testing.T, which uint8, body []byte, model string) {
		if model == "" {
			return // no request is without one, and a chunk without one is a node's fault
		}
		if which = which % uint8(len(textRoutes)+1); int(which) == len(textRoutes) {
			fuzzTell(t, nativeChat, openAIChat, body, model)
			return
		}
		route := *Find("POST", textRoutes[which]).Route
		fuzzTell(t, route, route, body, model)
	})
}

func fuzzTell(t *testing.T, from, to Route, body []byte, model string) {
	for _, usage := range []bool{true, false} {
		teller, err := NewReteller(Retelling{From: from, To: to, Model: model, Usage: usage})
		if err != nil {
			t.Fatal(err)
		}
		fuzzTeller(t, teller, from, to, body)
	}
}

func fuzzTeller(t *testing.T, teller *Reteller, from, to Route, body []byte) {
	judge, toldJudge := NewJudge(from.Dialect, from.Operation), NewJudge(to.Dialect, to.Operation)
	for s := NewSplitter(bytes.NewReader(body), from.Dialect); ; {
		frame, err := s.Next()
		if err != nil {
			return
		}
		before := bytes.Clone(frame)
		if kind, err := judge.Frame(frame); err != nil {
			teller.Tell(nil, frame, Part) // whatever it says
		} else if kind != Fault {
			told, err := teller.Tell(nil, frame, kind)
			if err != nil {
				if from.Path == to.Path {
					t.Fatalf("%s: %q is %v, but %v", from.Path, frame, kind, err)
				}
				return // a translator may want more of a frame than a judge
			}
			for _, one := range told {
				if got, err := toldJudge.Frame(one.Data); err != nil || got != one.Kind {
					t.Fatalf("%s on %s: %q\nis told as %v %q\nwhich is %v, %v", from.Path, to.Path, frame, one.Kind, one.Data, got, err)
				}
			}
			if from.Path == to.Path && len(told) > 0 {
				tellBack(t, teller, frame, told[0].Data)
			}
		}
		if !bytes.Equal(frame, before) {
			t.Fatalf("%s on %s: %q became %q", from.Path, to.Path, before, frame)
		}
	}
}

// tellBack tells a told frame with its old ids and, for every model in it, the model it is told
// with: that must change the same places, and only them.
func tellBack(t *testing.T, teller *Reteller, frame, told []byte) {
	back, same := respeller{model: teller.model}, respeller{model: teller.model}
	back.ids.numbers, same.ids.numbers = teller.ids.numbers, teller.ids.numbers
	for _, id := range teller.ids.minted {
		back.ids.minted = append(back.ids.minted, newID{id.new, id.old})
		same.ids.minted = append(same.ids.minted, newID{id.old, id.old})
	}
	if _, ok := dataOf(frame); !ok {
		return // its lines of data became one
	}
	got, err := back.respell(told, teller.spots)
	if err != nil {
		t.Fatalf("%q, told as %q, told back: %v", frame, told, err)
	}
	want, err := same.respell(frame, teller.spots)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%q\ntold      %q\ntold back %q\nwant      %q, %v", frame, told, got, want, err)
	}
}

// BenchmarkTell compares the telling of a part to its judging, which it follows or precedes.
func BenchmarkTell(b *testing.B) {
	frames := map[string]struct {
		from, to string
		frame    []byte
	}{
		"chat":        {"/api/chat", "/api/chat", hotFrames["chat"].frame},
		"chunk":       {"/v1/chat/completions", "/v1/chat/completions", hotFrames["chunk"].frame},
		"completion":  {"/v1/completions", "/v1/completions", []byte(`data: {"id":"cmpl-474","object":"text_completion","created":1795439004,"choices":[{"text":" today","index":0,"finish_reason":null}],"model":"tiny","system_fingerprint":"fp_ollama","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}` + "\n\n")},
		"messages":    {"/v1/messages", "/v1/messages", hotFrames["messages"].frame},
		"responses":   {"/v1/responses", "/v1/responses", hotFrames["responses"].frame},
		"chat-chunks": {"/api/chat", "/v1/chat/completions", hotFrames["chat"].frame},
	}
	for name, bench := range frames {
		for _, spelling := range []string{"tiny", "TINY:latest"} {
			b.Run("frame="+name+"/model="+spelling, func(b *testing.B) {
				teller, err := NewReteller(Retelling{
					From: *Find("POST", bench.from).Route, To: *Find("POST", bench.to).Route, Model: spelling,
				})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.SetBytes(int64(len(bench.frame)))
				var told []Told
				for b.Loop() {
					if told, err = teller.Tell(told[:0], bench.frame, Part); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
