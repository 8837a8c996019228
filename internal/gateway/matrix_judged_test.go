package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-json-experiment/json/jsontext"
)

// An asked node keeps the bodies of the inference requests it is sent.
type asked struct {
	http.Handler
	mu   sync.Mutex // guards what follows
	sent [][]byte
}

func (n *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if inference(r) {
		body, _ := io.ReadAll(r.Body)
		n.mu.Lock()
		n.sent = append(n.sent, body)
		n.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	n.Handler.ServeHTTP(w, r)
}

func (n *asked) take() (sent [][]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sent, n.sent = n.sent, nil
	return sent
}

// A judgedRoute is a route with what a body needs behind the model: TEXT stands for a string.
type judgedRoute struct{ path, model, rest, fault, wrong string }

var judgedRoutes = []judgedRoute{
	{"/api/chat", "tiny", `"stream":false,"messages":[{"role":"user","content":TEXT}]`, `{"error":"`, `"messages":{}`},
	{"/api/generate", "tiny", `"stream":false,"prompt":TEXT`, `{"error":"`, `"prompt":["x"]`},
	{"/api/embed", "tinyembed", `"input":TEXT`, `{"error":"`, `"truncate":"yes","input":"x"`},
	{"/api/embeddings", "tinyembed", `"prompt":TEXT`, `{"error":"`, `"prompt":{}`},
	{"/v1/chat/completions", "tiny", `"messages":[{"role":"user","content":TEXT}]`, `{"error":{"message":"`, `"messages":{}`},
	{"/v1/completions", "tiny", `"prompt":TEXT`, `{"error":{"message":"`, `"prompt":{}`},
	{"/v1/embeddings", "tinyembed", `"input":TEXT`, `{"error":{"message":"`, `"input":"x","dimensions":"x"`},
	{"/v1/responses", "tiny", `"input":TEXT`, `{"error":{"message":"`, `"input":{}`},
	{"/v1/messages", "tiny", `"max_tokens":9,"messages":[{"role":"user","content":TEXT}]`, `{"type":"error","error":{"type":"`, `"max_tokens":9,"messages":{}`},
}

// whole is a body with a text, which is a JSON string or what should have been one.
func (r judgedRoute) whole(text string) string {
	return `{"model":"` + r.model + `",` + strings.Replace(r.rest, "TEXT", text, 1) + "}"
}

// read is what a node's decoder makes of a body, without what the gateway asks for itself.
func read(t *testing.T, body []byte) (got struct {
	Model                           string
	Prompt, Input, Messages, System any
	Options                         map[string]any
},
) {
	t.Helper()
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&got); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return got
}

// 43, 44, 45
func TestMatrix_WhatReachesANodeIsWhatWasJudged(t *testing.T) {
	for _, route := range judgedRoutes {
		t.Run(route.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := &asked{Handler: goldenNode(t, 0.001)}
				r := newRig(t, rigOptions{}, node)
				plain, model := route.whole(`"hi"`), `"model":"`+route.model+`"`
				for name, body := range map[string]string{
					"as it is":                  plain,
					"one spelling":              strings.Replace(plain, `"model"`, `"MODEL"`, 1),
					"a field in escapes":        strings.Replace(plain, `"model"`, `"mod\u0065l"`, 1),
					"a name in escapes":         strings.Replace(plain, `"model":"t`, `"model":"\u0074`, 1),
					"a lone surrogate":          route.whole(`"a\ud800b"`),
					"surrogates the wrong way":  route.whole(`"\udc00\ud800"`),
					"a pair of surrogates":      route.whole(`"\ud83d\ude00"`),
					"broken UTF-8":              route.whole("\"a\xff\xc3(\xed\xa0\x80b\""),
					"NUL in a text":             route.whole(`"a\u0000b"`),
					"a separator of lines":      route.whole(`"a\u2028b"`),
					"blanks around":             " \r\n\t" + plain + "\n ",
					"unknown fields":            strings.Replace(plain, "{", `{"zzz":{"a":[1,{"b":null}]},"ZZZZ":1e2,`, 1),
					"broken UTF-8 in no field":  strings.Replace(plain, "{", "{\"z\xff\":1,", 1),
					"null where nothing is due": strings.Replace(plain, "{", `{"options":null,"keep_alive":null,`, 1),
				} {
					code, answer, _ := r.ask(route.path, body)
					sent := node.take()
					if code != 200 || len(sent) != 1 {
						t.Errorf("%s: %q: %d %s, %d requests at the node; want 200 and one", name, body, code, answer, len(sent))
						continue
					}
					if !jsontext.Value(sent[0]).IsValid() {
						t.Errorf("%s: %q reached the node as %q, which two readers may read in two ways", name, body, sent[0])
					}
					if came, went := read(t, []byte(body)), read(t, sent[0]); !reflect.DeepEqual(came, went) {
						t.Errorf("%s: %q reached the node as %q", name, body, sent[0])
					}
				}
				for name, body := range map[string]string{
					"a field twice":                 strings.Replace(plain, model, model+`,`+model, 1),
					"two spellings":                 strings.Replace(plain, model, model+`,"Model":"tiny2"`, 1),
					"two spellings, one in escapes": strings.Replace(plain, model, model+`,"mod\u0065l":"tiny2"`, 1),
					"a value behind":                plain + plain,
					"letters behind":                plain + " x",
					"NUL behind":                    plain + "\x00",
					"NUL in a name":                 strings.Replace(plain, `"model":"`, `"model":"\u0000`, 1),
					"broken UTF-8 in a name":        strings.Replace(plain, `"model":"`, "\"model\":\"\xff", 1),
					"a surrogate in a name":         strings.Replace(plain, `"model":"`, `"model":"\ud800`, 1),
				} {
					code, answer, _ := r.ask(route.path, body)
					if sent := node.take(); code != 400 && code != 404 || len(sent) != 0 {
						t.Errorf("%s: %q: %d %s, %d requests at the node; want a refusal and none", name, body, code, answer, len(sent))
					}
					if !strings.HasPrefix(answer, `{"error":`) && !strings.HasPrefix(answer, route.fault) {
						t.Errorf("%s: %q: %s is no error", name, body, answer)
					}
				}
				synctest.Wait()
				r.idle()
			})
		})
	}
}

// 43, 45: what a node would refuse, too, is refused in its words.
func TestMatrix_WhatANodeCannotReadIsRefusedInItsWords(t *testing.T) {
	for _, route := range judgedRoutes {
		t.Run(route.path, func(t *testing.T) {
			onStand(t, standSetup{nodes: 1, scale: 0.001}, func(s *stand) {
				plain := route.whole(`"` + canary + `"`)
				for name, body := range map[string]string{
					"nothing":               ``,
					"half of it":            plain[:len(plain)/2],
					"no JSON":               `model=tiny`,
					"a mark before":         "\ufeff" + plain,
					"a list":                `[` + plain + `]`,
					"a text":                `"tiny"`,
					"single quotes":         strings.ReplaceAll(plain, `"`, `'`),
					"a comma too many":      strings.Replace(plain, "}", ",}", 1),
					"a comment":             strings.Replace(plain, "{", "{/* x */", 1),
					"a number with a zero":  strings.Replace(plain, "{", `{"seed":01,`, 1),
					"NaN":                   strings.Replace(plain, "{", `{"temperature":NaN,`, 1),
					"a bare control letter": route.whole("\"a\nb\""),
					"an escape of its own":  route.whole(`"\x41"`),
					"the model is a number": strings.Replace(plain, `"model":"`+route.model+`"`, `"model":5`, 1),
					"the model is a list":   strings.Replace(plain, `"model":"`+route.model+`"`, `"model":["tiny"]`, 1),
					"no model":              strings.Replace(plain, `"model":"`+route.model+`",`, ``, 1),
					"an empty model":        strings.Replace(plain, `"model":"`+route.model+`"`, `"model":""`, 1),
					"a wrong type":          `{"model":"` + route.model + `",` + route.wrong + `}`,
				} {
					before := s.served(0)
					code, answer, header := s.rig.ask(route.path, body)
					if n := s.served(0) - before; n != 0 {
						s.Errorf("%s: %q: the node had %d requests", name, body, n)
					}
					if want, words := s.direct(0, route.path, body); code != want || mask(answer) != mask(words) {
						s.Errorf("%s: %q\ngot  %d %s\nwant %d %s", name, body, code, answer, want, words)
					}
					if code >= 400 && !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
						s.Errorf("%s: %q: content type %s", name, body, header.Get("Content-Type"))
					}
				}
			})
		})
	}
}

var requestIDs = regexp.MustCompile(`req_[0-9a-f]+`)

// mask takes the random id out of an error of Anthropic's dialect.
func mask(answer string) string { return requestIDs.ReplaceAllString(answer, "req_") }
