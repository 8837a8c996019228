package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func canonical(t *testing.T, path, body string) string {
	t.Helper()
	return string(mustParse(t, path, body).Canonical())
}

// The mistakes of other caches (peers.md section 6), as far as they are about the text of a
// key: each pair had one key there.
func TestCanonical_MakesNoKnownMistake(t *testing.T) {
	const chat, generate, embed, openAI = "/api/chat", "/api/generate", "/api/embed", "/v1/chat/completions"
	user := `{"role":"user","content":"who?"}`
	tests := []struct{ name, path, a, b string }{
		{"the system prompt is missing", chat, `"messages":[{"role":"system","content":"a"},` + user + `]`, `"messages":[{"role":"system","content":"b"},` + user + `]`},
		{"the system of a prompt is missing", generate, `"prompt":"x","system":"a"`, `"prompt":"x","system":"b"`},
		{"earlier turns are missing", chat, `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},` + user + `]`, `"messages":[` + user + `]`},
		{"earlier answers are missing", chat, `"messages":[` + user + `,{"role":"assistant","content":"a"},` + user + `]`, `"messages":[` + user + `,{"role":"assistant","content":"b"},` + user + `]`},
		{"earlier tokens are missing", generate, `"prompt":"x","context":[1,2]`, `"prompt":"x","context":[12]`},
		{"options are missing", chat, `"messages":[` + user + `],"options":{"temperature":0}`, `"messages":[` + user + `],"options":{"temperature":1}`},
		{"options are looked for at the top", chat, `"messages":[` + user + `],"options":{"seed":1}`, `"messages":[` + user + `],"seed":1`},
		{"the format is missing", chat, `"messages":[` + user + `],"format":"json"`, `"messages":[` + user + `]`},
		{"a schema is missing", openAI, `"messages":[` + user + `],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object"}}}`, `"messages":[` + user + `],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"array"}}}`},
		{"tools are missing", chat, `"messages":[` + user + `],"tools":[{"function":{"name":"a"}}]`, `"messages":[` + user + `],"tools":[{"function":{"name":"b"}}]`},
		{"images are missing", chat, `"messages":[{"role":"user","content":"who?","images":["aGk="]}]`, `"messages":[{"role":"user","content":"who?","images":["aGo="]}]`},
		{"images in an address are missing", openAI, `"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:;base64,aGk="}}]}]`, `"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:;base64,aGo="}}]}]`},
		{"sounds are missing", openAI, `"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"aGk="}}]}]`, `"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"aGo="}}]}]`},
		{"the case is lost", chat, `"messages":[{"role":"user","content":"US"}]`, `"messages":[{"role":"user","content":"us"}]`},
		{"the case is lost in what is embedded", embed, `"input":"US"`, `"input":"us"`},
		{"white space is lost", generate, `"prompt":"x "`, `"prompt":"x"`},
		{"white space is lost inside", generate, `"prompt":"if a:\n  b"`, `"prompt":"if a:\n b"`},
		{"white space is lost in what is embedded", embed, `"input":"\tx"`, `"input":"x"`},
		{"one text is a list of one", embed, `"input":"x"`, `"input":["x"]`},
		{"texts run together", embed, `"input":["ab","c"]`, `"input":["a","bc"]`},
		{"messages run together", chat, `"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]`, `"messages":[{"role":"user","content":"ab"}]`},
		{"fields run together", generate, `"prompt":"a","suffix":"bc"`, `"prompt":"ab","suffix":"c"`},
		{"a field is another", generate, `"prompt":"x","system":"a"`, `"prompt":"x","template":"a"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := `{"model":"m",`+test.a+`}`, `{"model":"m",`+test.b+`}`
			if got := canonical(t, test.path, a); got == canonical(t, test.path, b) {
				t.Errorf("%s and\n%s are both\n%q", a, b, got)
			}
		})
	}
}

func TestCanonical_LeavesOutWhatIsNotSaid(t *testing.T) {
	const chat, openAI, messages = "/api/chat", "/v1/chat/completions", "/v1/messages"
	user := `"messages":[{"role":"user","content":"hi"}]`
	tests := []struct{ name, path, a, b string }{
		{"a stream", chat, user, user + `,"stream":false`},
		{"who asks", openAI, user, user + `,"user":"me","METADATA":{"a":1},"stream_options":{"include_usage":true}`},
		{"the data of who asks", messages, `"max_tokens":1,` + user, `"max_tokens":1,` + user + `,"metadata":{"user_id":"me"}`},
		{"the time to stay", chat, user, user + `,"keep_alive":"5m"`},
		{"another model", chat, `"model":"x",` + user, `"MODEL":"y",` + user},
		{"an older name of one", chat, user, user + `,"name":"x"`},
		{"where a model is", chat, user + `,"options":{"seed":1}`, user + `,"options":{"num_gpu":1,"main_gpu":0,"seed":1,"num_thread":4,"num_batch":8,"use_mmap":true}`},
		{"options that are none", chat, user, user + `,"options":{"num_\u0067pu":1}`},
		{"the order of fields", chat, user + `,"format":"json"`, `"format":"json",` + user},
		{"the order of a message's fields", chat, user, `"messages":[{"content":"hi","role":"user"}]`},
		{"the order of options", chat, user + `,"options":{"seed":1,"top_k":2}`, user + `,"options":{"top_k":2,"seed":1}`},
		{"the spelling of fields", chat, user, `"Me\u0073sages":[{"ROLE":"user","content":"hi"}]`},
		{"the spelling of texts", chat, user, `"messages":[{"role":"us\u0065r","content":"\u0068i"}]`},
		{"the spelling of numbers", openAI, user + `,"temperature":0,"top_p":100`, user + `,"temperature":0e5,"top_p":1E+2`},
		{"the spelling of options", chat, user + `,"options":{"temperature":0.50,"stop":[10]}`, user + `,"options":{"temperature":5e-1,"stop":[1e1]}`},
		{"the spelling of images", chat, `"messages":[{"images":["aGk="]}]`, `"messages":[{"images":["a\u0047k\n="]}]`},
		{"null", chat, user, user + `,"think":null,"format":null,"tools":null,"options":null`},
		{"null in a message", chat, user, `"messages":[{"role":"user","content":"hi","images":null,"tool_calls":null,"thinking":null}]`},
		{"bad UTF-8", chat, "\"messages\":[{\"content\":\"\xff\\udfff\"}]", "\"messages\":[{\"content\":\"\ufffd\ufffd\"}]"},
		{"white space between values", chat, user + `,"format":{"a":[1,2]}`, user + ` , "format":{ "a" : [ 1 , 2 ] }`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := func(fields string) string {
				if strings.Contains(strings.ToLower(fields), `"model"`) {
					return "{" + fields + "}"
				}
				return `{"model":"m",` + fields + "}"
			}
			if a, b := canonical(t, test.path, body(test.a)), canonical(t, test.path, body(test.b)); a != b {
				t.Errorf("%s and %s\n%q\n%q", test.a, test.b, a, b)
			}
		})
	}
}

func TestCanonical_TellsWhatElseThereIs(t *testing.T) {
	const chat, openAI, responses, messages = "/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"
	user := `"messages":[{"role":"user","content":"hi"}]`
	tool := func(parameters string) string {
		return user + `,"tools":[{"type":"function","function":{"name":"f","parameters":` + parameters + `}}]`
	}
	call := func(arguments string) string {
		return `"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":` + arguments + `}}]}]`
	}
	tests := []struct{ name, path, a, b string }{
		{"order in a format", chat, user + `,"format":{"a":1,"b":2}`, user + `,"format":{"b":2,"a":1}`},
		{"order in a schema", openAI, user + `,"response_format":{"json_schema":{"schema":{"a":1,"b":2}}}`, user + `,"response_format":{"json_schema":{"schema":{"b":2,"a":1}}}`},
		{"order in a text's format", responses, `"input":"x","text":{"format":{"schema":{"a":1,"b":2}}}`, `"input":"x","text":{"format":{"schema":{"b":2,"a":1}}}`},
		{"order in a tool", chat, tool(`{"type":"object","properties":{"a":{},"b":{}}}`), tool(`{"type":"object","properties":{"b":{},"a":{}}}`)},
		{"order of a tool's fields", chat, tool(`{"type":"object","properties":{}}`), tool(`{"properties":{},"type":"object"}`)},
		{"order in a tool of responses", responses, `"input":"x","tools":[{"parameters":{"a":1,"b":2}}]`, `"input":"x","tools":[{"parameters":{"b":2,"a":1}}]`},
		{"order in a tool of Anthropic", messages, `"max_tokens":1,` + user + `,"tools":[{"input_schema":{"a":1,"b":2}}]`, `"max_tokens":1,` + user + `,"tools":[{"input_schema":{"b":2,"a":1}}]`},
		{"order in arguments", chat, call(`{"a":1,"b":2}`), call(`{"b":2,"a":1}`)},
		{"order in what a tool gets", messages, `"max_tokens":1,"messages":[{"content":[{"type":"tool_use","input":{"a":1,"b":2}}]}]`, `"max_tokens":1,"messages":[{"content":[{"type":"tool_use","input":{"b":2,"a":1}}]}]`},
		{"numbers in a format", chat, user + `,"format":{"a":1.0}`, user + `,"format":{"a":1}`},
		{"numbers in a tool", chat, tool(`{"properties":{"a":{"enum":[1.0]}}}`), tool(`{"properties":{"a":{"enum":[1]}}}`)},
		{"numbers in arguments", chat, call(`{"a":1e2}`), call(`{"a":100}`)},
		{"null in a tool", chat, tool(`{"properties":{"a":{"type":null}}}`), tool(`{"properties":{"a":{}}}`)},
		{"a new field", chat, user, user + `,"reasoning_budget":0`},
		{"a new field that is null", chat, user, user + `,"reasoning_budget":null`},
		{"two values of a new field", chat, user + `,"new":1`, user + `,"new":1.0`},
		{"a new field of a message", chat, user, `"messages":[{"role":"user","content":"hi","new":1}]`},
		{"a new field of a block", messages, `"max_tokens":1,"messages":[{"content":[{"type":"text","text":"x"}]}]`, `"max_tokens":1,"messages":[{"content":[{"type":"text","text":"x","new":0}]}]`},
		{"a new field of a format", openAI, user + `,"response_format":{"type":"text"}`, user + `,"response_format":{"type":"text","new":0}`},
		{"an item of a new kind", responses, `"input":[{"type":"new","a":1}]`, `"input":[{"type":"new","a":2}]`},
		{"the user of a message", chat, user, `"messages":[{"role":"user","content":"hi","user":"me","stream":1,"model":2}]`},
		{"a new option", chat, user + `,"options":{"new":1}`, user + `,"options":{}`},
		{"an option in other case", chat, user + `,"options":{"Num_GPU":1}`, user + `,"options":{}`},
		{"options of OpenAI, which a node ignores today", openAI, user + `,"options":{"num_gpu":1}`, user + `,"options":{"num_gpu":2}`},
		{"the window", chat, user + `,"options":{"num_ctx":4096}`, user + `,"options":{"num_ctx":8192}`},
		{"seeds that are one float64", chat, user + `,"options":{"seed":9007199254740993}`, user + `,"options":{"seed":9007199254740992}`},
		{"numbers with one list of digits", chat, user + `,"options":{"top_p":0.5}`, user + `,"options":{"top_p":0.05}`},
		{"a sign", chat, user + `,"options":{"seed":1}`, user + `,"options":{"seed":-1}`},
		{"a number and its text", chat, user + `,"options":{"seed":1}`, user + `,"options":{"seed":"1"}`},
		{"not, and nothing", chat, user + `,"think":false`, user},
		{"an empty text, and nothing", "/api/generate", `"prompt":"x","system":""`, `"prompt":"x"`},
		{"an empty list, and nothing", chat, user + `,"tools":[]`, user},
		{"a null option, and nothing", chat, user + `,"options":{"seed":null}`, user + `,"options":{}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := `{"model":"m",`+test.a+`}`, `{"model":"m",`+test.b+`}`
			if got := canonical(t, test.path, a); got == canonical(t, test.path, b) {
				t.Errorf("%s and\n%s are both\n%q", a, b, got)
			}
		})
	}
	if canonical(t, "/api/embed", `{"model":"m","input":"x"}`) == canonical(t, "/v1/embeddings", `{"model":"m","input":"x"}`) {
		t.Error("two routes are one")
	}
}

func TestCanonical_IsThatOfWhatIsSentOn(t *testing.T) {
	const body = `{"model":"m","messages":[{"content":"x"}],"options":{"num_ctx":1e5%s}}`
	adjusted := func(fields string, a Adjust) string {
		q, err := ParseAdjusted(routeOf("/api/chat"), fmt.Appendf(nil, body, fields), a)
		if err != nil {
			t.Fatal(err)
		}
		return string(q.Canonical())
	}
	tests := []struct {
		name, fields string
		adjust       Adjust
		want         string
	}{
		{"as it is", "", Adjust{}, `{"model":"m","messages":[{"content":"x"}],"options":{"num_ctx":100000}}`},
		{"lowered", `,"seed":1`, limited, `{"model":"m","messages":[{"content":"x"}],"options":{"seed":1,"num_ctx":4096}}`},
		{"taken out", `,"seed":1`, without, `{"model":"m","messages":[{"content":"x"}],"options":{"seed":1}}`},
		{"taken out alone", "", without, `{"model":"m","messages":[{"content":"x"}]}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, want := adjusted(test.fields, test.adjust), canonical(t, "/api/chat", test.want); got != want {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

// Long bodies that differ in their last byte only: nothing may be cut, hashed weakly or
// looked at in part.
func TestCanonical_DiffersByTheLastByteOfALongOne(t *testing.T) {
	long := strings.Repeat("lorem ipsum dolor sit amet ", 300_000/27)
	noise := make([]byte, 4<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	image := func(last byte) string {
		return base64.StdEncoding.EncodeToString(append(noise[:len(noise):len(noise)], last))
	}
	picture := func(last byte) string { // the race detector makes a large one take seconds
		return base64.StdEncoding.EncodeToString(append(noise[:128<<10:128<<10], last))
	}
	tests := []struct{ name, path, before, a, b, after string }{
		{"a prompt", "/api/generate", `"prompt":"` + long, "a", "b", `"`},
		{"a chat", "/api/chat", `"messages":[{"role":"user","content":"` + long, "a", "b", `"}]`},
		{"parts", "/v1/chat/completions", `"messages":[{"role":"user","content":[{"type":"text","text":"` + long, "a", "b", `"}]}]`},
		{"an input", "/api/embed", `"input":["` + long, "a", "b", `"]`},
		{"escapes to the end", "/api/generate", `"prompt":"` + strings.Repeat(`\n`, 150_000), "a", "b", `"`},
		{"an image", "/api/chat", `"messages":[{"role":"user","content":"x","images":["aGk=","`, image(1), image(2), `"]}]`},
		{"an image with line ends", "/api/chat", `"messages":[{"role":"user","content":"x","images":["\n`, picture(1), picture(2), `\r\n"]}]`},
		{"an image in an address", "/v1/chat/completions", `"messages":[{"content":[{"type":"image_url","image_url":"data:;base64,`, picture(1), picture(2), `"}]}]`},
		{"an image of Anthropic", "/v1/messages", `"max_tokens":1,"messages":[{"content":[{"type":"image","source":{"type":"base64","data":"`, picture(1), picture(2), `"}}]}]`},
		{"an image in a response", "/v1/responses", `"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:;base64,`, picture(1), picture(2), `"}]}]`},
		{"an image that a tool gave", "/v1/messages", `"max_tokens":1,"messages":[{"content":[{"type":"tool_result","content":[{"type":"image","source":{"data":"`, picture(1), picture(2), `"}}]}]}]`},
		{"behind an image", "/api/chat", `"messages":[{"images":["` + picture(1) + `"],"role":"user","content":"` + long, "a", "b", `"}]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := canonical(t, test.path, `{"model":"m",`+test.before+test.a+test.after+"}")
			b := canonical(t, test.path, `{"model":"m",`+test.before+test.b+test.after+"}")
			if a == b {
				t.Errorf("two bodies have one form of %d bytes", len(a))
			}
			if strings.Contains(test.name, "an image") && test.name != "behind an image" && len(a) > 1<<10 {
				t.Errorf("an image makes a form of %d bytes", len(a))
			}
		})
	}
}

// An image is the same however it is written down.
func TestCanonical_DigestsWhatBase64IsFor(t *testing.T) {
	octets := make([]string, 3*mediaChunk+5)
	raw := make([]byte, len(octets))
	for i := range raw {
		raw[i] = byte(i * 7)
		octets[i] = fmt.Sprint(raw[i])
	}
	code := base64.StdEncoding.EncodeToString(raw)
	form := func(image string) string {
		return canonical(t, "/api/generate", `{"model":"m","prompt":"x","images":[`+image+`]}`)
	}
	want := form(`"` + code + `"`)
	for name, image := range map[string]string{
		"octets": "[" + strings.Join(octets, ",") + "]", "line ends": `"` + strings.Join([]string{code[:77], code[77:5000], code[5000:]}, `\r\n`) + `"`,
		"escapes": `"` + strings.ReplaceAll(code, "/", `\/`) + `"`,
	} {
		if got := form(image); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if form("[]") != form(`""`) || form("[0]") != form(`"AA=="`) || form("[null]") != form(`"AA=="`) || form("null") == form(`""`) {
		t.Error("octets and base64 of next to nothing differ")
	}
}

// The form is part of what is stored: another one needs another version.
func TestCanonical_ChangesOnlyWithItsVersion(t *testing.T) {
	const body = `{"model":"m","messages":[{"role":"user","content":"h\u0069 \ud83d\ude00","images":["aGk="],"new":1.0}],"stream":false,` +
		`"options":{"temperature":0.50,"seed":-120,"num_gpu":1,"stop":["a"]},"format":{"b":1.0,"a":null},"tools":[{"TYPE":"function"}],"think":true,"zzz":{"a":[1e3]}}`
	const want = "caddy-ollama request 1\ns\t/api/chatk\bmessages[{k\x04roles\x04userk\acontents\ahi \U0001f600k\x06images[" +
		"b\x8f\x43\x43\x46\x64\x8f\x6b\x96\xdf\x89\xdd\xa9\x01\xc5\x17\x6b\x10\xa6\xd8\x39\x61\xdd\x3c\x1a\xc8\x8b\x59\xb2\xdc\x32\x7a\xa4.k\x03new#\x031.0..k\x06format{k\x01b#\x031.0k\x01an.k\x05tools[{k\x04types\bfunction..k\aoptions{" +
		"k\x04seedd-\x02\x0212k\x04stop[s\x01a.k\vtemperatured+\x01\x015.k\x05thinktk\x03zzz{k\x01a[#\x031e3.."
	if got := canonical(t, "/api/chat", body); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCanonical_MayBeKeptAndChanged(t *testing.T) {
	q := mustParse(t, "/api/chat", chatBody(2, 100, 1<<20))
	first := q.Canonical()
	want := bytes.Clone(first)
	if cap(first) > 2*len(first)+1<<10 {
		t.Errorf("%d bytes hold %d", len(first), cap(first))
	}
	for i := range first {
		first[i]++
	}
	if got := q.Canonical(); !bytes.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestCanonical_IsSafeForConcurrentUse(t *testing.T) {
	q := mustParse(t, "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"\u0068i"}],"tools":[{"type":"function"}],"zzz":"\n"}`)
	want := q.Canonical()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				q.Conversation()
				q.NativeChat()
				if got := q.Canonical(); !bytes.Equal(got, want) || q.LastPrompt() != "hi" || !q.SingleTurn() || !q.HasTools() || q.PrintsDate() || q.Sampling().Deterministic() {
					t.Errorf("got %q\nwant %q", got, want)
				}
			}
		})
	}
	all.Wait()
}

func TestCanonical_CostsLittleWhateverComes(t *testing.T) {
	const (
		size = 128 << 10
		// Under the race detector, which has keys copied; else bad bytes cost most, which become
		// three each in a buffer that grows.
		most = 32 * size
	)
	bodies := hostileBodies(size)
	told := 0
	for name, hostile := range bodies {
		request, err := Parse(routeOf(hostile.path), hostile.body)
		if err != nil {
			continue
		}
		told++
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		form := request.Canonical()
		request.NativeChat()
		request.LastPrompt()
		request.SingleTurn()
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if cost := after.TotalAlloc - before.TotalAlloc; cost > most {
			t.Errorf("%s: %d bytes of body cost %d bytes of memory, want at most %d", name, len(hostile.body), cost, most)
		}
		// The worst takes half a second. Quadratic work would take minutes.
		if took > 20*time.Second {
			t.Errorf("%s: %d bytes of body took %v", name, len(hostile.body), took)
		}
		if err := takeApart(form); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if told < 12 {
		t.Errorf("only %d bodies were told", told)
	}
}

func TestCanonical_PutsManyKeysInOrder(t *testing.T) {
	body := func(n int, backwards bool) string {
		options, fields := make([]string, n), make([]string, n)
		for i := range n {
			options[i], fields[i] = fmt.Sprintf(`"o%d":1`, i), fmt.Sprintf(`"\u0066%d":[1]`, i)
		}
		if backwards {
			slices.Reverse(options)
			slices.Reverse(fields)
		}
		return `{"model":"m","messages":[{"content":"x",` + strings.Join(fields, ",") + `}],"options":{` + strings.Join(options, ",") + `,"num_gpu":1},` + strings.Join(fields, ",") + `}`
	}
	for _, n := range []int{1, manyKeys - 1, manyKeys, manyKeys + 1, 2 * manyKeys} {
		a, b := canonical(t, "/api/chat", body(n, false)), canonical(t, "/api/chat", body(n, true))
		if same := a == b; same != (n <= manyKeys) {
			t.Errorf("%d keys: same is %v", n, same)
		}
		if len(a) != len(b) || strings.Contains(a, "num_gpu") || strings.Count(a, "o1") != strings.Count(b, "o1") {
			t.Errorf("%d keys: forms of %d and %d bytes", n, len(a), len(b))
		}
		if err := takeApart([]byte(a)); err != nil {
			t.Error(err)
		}
	}
}
