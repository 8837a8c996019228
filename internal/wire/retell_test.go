package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// wholeStreams gives the recorded text streams of all dialects that came to their end.
func wholeStreams(t testing.TB) (recs []golden.Record) {
	for _, file := range textFiles {
		recs = append(recs, streams(t, file)...)
	}
	return recs
}

// routeOfRecord is the route of a recorded request.
func routeOfRecord(t testing.TB, rec golden.Record) Route {
	path, _, _ := strings.Cut(rec.Request.Path, "?")
	m := Find(rec.Request.Method, path)
	if m.Route == nil {
		t.Fatalf("%s: no route for %s", rec.ID, path)
	}
	return *m.Route
}

// tellAll tells whole frames.
func tellAll(t testing.TB, r Retelling, frames [][]byte) (told [][]byte, kinds []FrameKind) {
	teller, err := NewReteller(r)
	if err != nil {
		t.Fatal(err)
	}
	return tellWith(t, teller, r.From, frames)
}

func tellWith(t testing.TB, teller *Reteller, from Route, frames [][]byte) (told [][]byte, kinds []FrameKind) {
	judge := NewJudge(from.Dialect, from.Operation)
	for _, frame := range frames {
		kind, err := judge.Frame(frame)
		if err != nil {
			t.Fatalf("judge %q: %v", frame, err)
		}
		before := bytes.Clone(frame)
		list, err := teller.Tell(nil, frame, kind)
		if err != nil {
			t.Fatalf("tell %q: %v", frame, err)
		}
		if !bytes.Equal(frame, before) {
			t.Fatalf("%q became %q", before, frame)
		}
		for _, one := range list {
			told, kinds = append(told, one.Data), append(kinds, one.Kind)
		}
	}
	return told, kinds
}

// judgeTold fails if told frames are none of the dialect or of another kind.
func judgeTold(t testing.TB, to Route, told [][]byte, kinds []FrameKind) {
	t.Helper()
	judge := NewJudge(to.Dialect, to.Operation)
	for i, frame := range told {
		kind, err := judge.Frame(frame)
		if err != nil || kind != kinds[i] {
			t.Fatalf("told as %v: %q\nis %v, %v", kinds[i], frame, kind, err)
		}
	}
}

// answerIDs are the ids that a node mints for an answer, with the part that tells them apart.
var answerIDs = regexp.MustCompile(`"(chatcmpl-|cmpl-|msg_|resp_|rs_(?:resp_)?|fc_(?:resp_)?|ws_)([0-9a-f]+)(_\d+)?"`)

// keep has the reteller give the ids that are recorded.
func (m *ids) keep(body []byte) {
	for _, id := range answerIDs.FindAllSubmatch(body, -1) {
		m.minted = append(m.minted, newID{id[2], id[2]})
	}
}

// modelOf is the model as the recorded request spells it.
func modelOf(t testing.TB, rec golden.Record) string {
	var request struct{ Model string }
	if err := json.Unmarshal(rec.Request.Body, &request); err != nil {
		t.Fatalf("%s: %v", rec.ID, err)
	}
	return request.Model
}

func TestTell_SameModelAndIDsAreTheRecordedBytes(t *testing.T) {
	told := 0
	for _, rec := range wholeStreams(t) {
		route, body := routeOfRecord(t, rec), rec.Response.Body
		teller, err := NewReteller(Retelling{From: route, To: route, Model: modelOf(t, rec), Usage: true})
		if err != nil {
			t.Fatal(err)
		}
		teller.ids.keep(body)
		frames := framesOf(t, body, route.Dialect)
		list, _ := tellWith(t, teller, route, frames)
		if got := bytes.Join(list, nil); !bytes.Equal(got, body) {
			t.Errorf("%s %s\ngot  %s\nwant %s", route.Path, rec.ID, got, body)
		}
		for i, frame := range frames {
			if &frame[0] != &list[i][0] {
				t.Errorf("%s %s: %q was copied", route.Path, rec.ID, frame)
			}
		}
		told++
	}
	if told < 29 {
		t.Errorf("%d streams told, want all that are recorded", told)
	}
}

func TestTell_OtherModelAndIDsAndNothingElse(t *testing.T) {
	const spelling = `"registry.ollama.ai/library/TINY:latest"`
	for _, rec := range wholeStreams(t) {
		route, body := routeOfRecord(t, rec), rec.Response.Body
		told, kinds := tellAll(t, Retelling{From: route, To: route, Model: strings.Trim(spelling, `"`), Usage: true}, framesOf(t, body, route.Dialect))
		judgeTold(t, route, told, kinds)

		got := bytes.Join(told, nil)
		before, after := answerIDs.FindAllSubmatch(body, -1), answerIDs.FindAllSubmatch(got, -1)
		if len(before) != len(after) || route.Dialect != Ollama && len(before) == 0 {
			t.Fatalf("%s %s\ngot  ids %q\nwant as many as %q", route.Path, rec.ID, after, before)
		}
		forward, backward := map[string]string{}, map[string]string{}
		for i := range before {
			old, minted := string(before[i][0]), string(after[i][0])
			if old == minted {
				t.Errorf("%s %s: %s is not new", route.Path, rec.ID, minted)
			}
			if was, ok := forward[old]; ok && was != minted {
				t.Errorf("%s %s: %s is both %s and %s", route.Path, rec.ID, old, was, minted)
			}
			if was, ok := backward[minted]; ok && was != old {
				t.Errorf("%s %s: %s is %s and %s", route.Path, rec.ID, minted, was, old)
			}
			forward[old], backward[minted] = minted, old
		}
		back := answerIDs.ReplaceAllFunc(got, func(id []byte) []byte { return []byte(backward[string(id)]) })
		back = bytes.ReplaceAll(back, []byte(`"model":`+spelling), []byte(`"model":"`+modelOf(t, rec)+`"`))
		if !bytes.Equal(back, body) {
			t.Errorf("%s %s, with its old ids and model\ngot  %s\nwant %s", route.Path, rec.ID, back, body)
		}
	}
}

func TestTell_FoldsIntoTheRecordedSingleAnswer(t *testing.T) {
	for _, tt := range foldPairs() {
		t.Run(tt.file+"/"+tt.stream, func(t *testing.T) {
			stream, single := record(t, tt.file, tt.stream), record(t, tt.file, tt.single)
			route := routeOfRecord(t, stream)
			told, _ := tellAll(t, Retelling{From: route, To: route, Model: "Other:x", Usage: true}, framesOf(t, stream.Response.Body, route.Dialect))
			_, got, err := Fold(route.Dialect, route.Operation, slices.Values(told))
			want := single.Response.Body
			if tt.cut != nil {
				want = tt.cut(want)
			}
			want = bytes.Replace(want, []byte(`"model":"`+modelOf(t, single)+`"`), []byte(`"model":"Other:x"`), 1)
			if err != nil || masked(got) != masked(want) {
				t.Errorf("got  %s, %v\nwant %s", masked(got), err, masked(want))
			}
		})
	}
}

func TestTell_UsageOnlyWhereItIsAskedFor(t *testing.T) {
	tests := []struct{ file, with, without string }{
		{"openai-chat", "stream-usage", "stream"},
		{"openai-completions", "stream-usage", "stream"},
	}
	for _, tt := range tests {
		with, without := record(t, tt.file, tt.with), record(t, tt.file, tt.without)
		route := routeOfRecord(t, with)
		told, kinds := tellAll(t, Retelling{From: route, To: route, Model: "tiny"}, framesOf(t, with.Response.Body, route.Dialect))
		if got := bytes.Join(told, nil); masked(got) != masked(without.Response.Body) {
			t.Errorf("%s\ngot  %s\nwant %s", tt.file, got, without.Response.Body)
		}
		judgeTold(t, route, told, kinds)
	}
}

func TestTell(t *testing.T) {
	tests := []struct{ name, path, frame, want string }{
		{"a record", "/api/chat", `{"model":"tiny","message":{"model":"tiny"},"done":false}`, `{"model":"a\u003cb\"","message":{"model":"tiny"},"done":false}`},
		{"the model behind other fields", "/api/generate", `{"response":"\"model\":\"x\"","x":{"model":"tiny"},"y":[["]"]],"model" : "tiny","done":false}`, `{"response":"\"model\":\"x\"","x":{"model":"tiny"},"y":[["]"]],"model" : "a\u003cb\"","done":false}`},
		{"no model", "/api/generate", `{"response":"a","done":false}`, `{"response":"a","done":false}`},
		{"a model that is none", "/api/chat", `{"model":null,"message":{},"done":false}`, `{"model":null,"message":{},"done":false}`},
		{"a backslash at the end of a text", "/api/generate", `{"response":"\\\\","model":"t\\","done":false}`, `{"response":"\\\\","model":"a\u003cb\"","done":false}`},
		{"an event in several lines", "/v1/chat/completions", ": c\nid: 1\r\ndata: {\"model\":\"m\",\ndata: \"choices\":[]}", ": c\nid: 1\ndata: {\"model\":\"a\\u003cb\\\"\", \"choices\":[]}"},
		{"no space behind data", "/v1/chat/completions", `data:{"model":"m","choices":[]}`, `data:{"model":"a\u003cb\"","choices":[]}`},
		{"an id with escapes", "/v1/chat/completions", `data: {"id":"chatcmpl-\u0031","model":"m","choices":[]}`, `data: {"id":"chatcmpl-\u0031","model":"a\u003cb\"","choices":[]}`},
		{"ids of tools", "/v1/chat/completions", `data: {"model":"m","choices":[{"delta":{"tool_calls":[{"id":"call_1"}]}}]}`, `data: {"model":"a\u003cb\"","choices":[{"delta":{"tool_calls":[{"id":"call_1"}]}}]}`},
		{"HEAD's web search", "/v1/messages", `data: {"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"model":"m"}}}`, `data: {"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"model":"m"}}}`},
	}
	for _, tt := range tests {
		route := *Find("POST", tt.path).Route
		teller, err := NewReteller(Retelling{From: route, To: route, Model: `a<b"`})
		if err != nil {
			t.Fatal(err)
		}
		told, err := teller.Tell(nil, []byte(tt.frame+"\n\n"), Part)
		if err != nil || len(told) != 1 || told[0].Kind != Part || string(told[0].Data) != tt.want+"\n\n" {
			t.Errorf("%s: %s\ngot  %q, %v\nwant %q", tt.name, tt.frame, told, err, tt.want)
		}
	}
}

// The events are written by hand after HEAD's openai.ResponsesStreamConverter, whose items
// bear the number of the response.
func TestTell_NumbersOfAResponseStayTogether(t *testing.T) {
	route := *Find("POST", "/v1/responses").Route
	told, _ := tellAll(t, Retelling{From: route, To: route, Model: "m"}, eventFrames(
		`{"response":{"id":"resp_77","model":"M","output":[]},"type":"response.created"}`,
		`{"item":{"id":"ws_77_0","type":"web_search_call"},"output_index":0,"type":"response.output_item.added"}`,
		`{"item_id":"msg_77_1","delta":"in resp_77","type":"response.output_text.delta"}`,
		`{"response":{"id":"resp_77","model":"M","output":[{"id":"ws_77_0"},{"call_id":"call_77","id":"fc_78_0"}],"status":"completed"},"type":"response.completed"}`,
	))
	got := string(bytes.Join(told, nil))
	numbers := answerIDs.FindAllStringSubmatch(got, -1)
	if len(numbers) != 6 {
		t.Fatalf("%s\ngot  ids %q, want 6", got, numbers)
	}
	n, other := numbers[0][2], numbers[5][2]
	for _, want := range []string{`"resp_` + n + `"`, `"ws_` + n + `_0"`, `"msg_` + n + `_1"`, `"fc_` + other + `_0"`, `"call_77"`, `"delta":"in resp_77"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	if n == "77" || other == "78" || n == other {
		t.Errorf("numbers %s and %s, want two new ones", n, other)
	}
}

func TestTell_FaultIsNotTold(t *testing.T) {
	route := *Find("POST", "/api/chat").Route
	teller, _ := NewReteller(Retelling{From: route, To: route, Model: "m"})
	if told, err := teller.Tell(nil, []byte(`{"error":"x"}`+"\n"), Fault); len(told) > 0 || err != nil {
		t.Errorf("got %q, %v, want nothing", told, err)
	}
}

func TestTell_WhatNoJudgePassesIsAnError(t *testing.T) {
	tests := []struct{ path, frame string }{
		{"/api/chat", ``},
		{"/api/chat", `x`},
		{"/api/chat", `{"model":"m`},
		{"/api/chat", `{"message":{`},
		{"/api/chat", `{"x"}`},
		{"/v1/chat/completions", `event: x`},
		{"/v1/chat/completions", `data: {"id":"`},
		{"/v1/chat/completions", `data`},
	}
	for _, tt := range tests {
		route := *Find("POST", tt.path).Route
		teller, _ := NewReteller(Retelling{From: route, To: route, Model: "m"})
		if told, err := teller.Tell(nil, []byte(tt.frame), Part); len(told) > 0 || !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %q\ngot %q, %v, want %v", tt.path, tt.frame, told, err, ErrFrame)
		}
	}
}

func TestNewReteller_OnlyNativeChatCrossesDialects(t *testing.T) {
	for _, from := range Routes() {
		for _, to := range Routes() {
			want := from.Path == to.Path || from.Path == "/api/chat" && to.Path == "/v1/chat/completions"
			_, err := NewReteller(Retelling{From: from, To: to, Model: "m"})
			if want != (err == nil) || err != nil && !errors.Is(err, ErrNoRetelling) {
				t.Errorf("%s on %s: %v, want allowed %v", from.Path, to.Path, err, want)
			}
		}
	}
}

func TestRespell(t *testing.T) {
	told := 0
	for _, file := range []string{"embed", "embeddings", "openai-embeddings"} {
		for _, rec := range golden.Load(t, file) {
			body := rec.Response.Body
			if rec.Response.Status != 200 || rec.Request.Method != "POST" || !IsObject(body) {
				continue
			}
			got, err := Respell(body, "Other:x")
			want := bytes.Replace(body, []byte(`"model":"`+modelOf(t, rec)+`"`), []byte(`"model":"Other:x"`), 1)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s/%s\ngot  %s, %v\nwant %s", file, rec.ID, got, err, want)
			}
			if bytes.Contains(body, []byte(`"model":`)) {
				told++
			}
		}
	}
	if told < 20 {
		t.Errorf("%d objects told, want all that are recorded", told)
	}
	if got, err := Respell([]byte(`[]`), "m"); got != nil || !errors.Is(err, ErrFrame) {
		t.Errorf("a list: got %s, %v, want %v", got, err, ErrFrame)
	}
}
