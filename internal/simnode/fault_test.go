package simnode_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestParseFault_WordsAndJSONMeanTheSame(t *testing.T) {
	for words, text := range map[string]string{
		"status=500,share=0.1":               `{"status":500,"share":0.1}`,
		"first-byte=5s, model=tiny":          `{"first_byte":"5s","model":"tiny"}`,
		"gap=200ms":                          `{"gap":"200ms"}`,
		"reset-after=3":                      `{"end":"reset","frames":3}`,
		"half-after=100B":                    `{"end":"half","bytes":100}`,
		"close-after=0":                      `{"end":"close"}`,
		"clean-after=2,path=/v1/*":           `{"end":"clean","frames":2,"path":"/v1/*"}`,
		"slow=20":                            `{"slow":20}`,
		"flap=10s":                           `{"refuse":true,"period":"10s","for":"5s"}`,
		"flap=10s,for=1s":                    `{"refuse":true,"period":"10s","for":"1s"}`,
		"for=1s,flap=10s,after=1m":           `{"refuse":true,"period":"10s","for":"1s","after":"1m"}`,
		"hang-accept,after=10s,for=5s":       `{"hang_accept":true,"after":"10s","for":"5s"}`,
		"deaf":                               `{"deaf":true}`,
		"tls=wrong-name":                     `{"tls":"wrong-name"}`,
		"never,path=*,skip=2,every=3":        `{"never":true,"path":"*","skip":2,"every":3}`,
		"redirect=http://elsewhere/":         `{"redirect":"http://elsewhere/"}`,
		"status=200,body=<html>,first=1":     `{"status":200,"body":"<html>","first":1}`,
		"type=text/html":                     `{"type":"text/html"}`,
		"too-long=7":                         `{"too_long":7}`,
		"bad-line,frames=1":                  `{"bad_line":"{\"model\":","frames":1}`,
		"giant-line=64MiB":                   `{"giant_line":67108864}`,
		"die,contains=boom,restart=3s":       `{"die":"kill","contains":"boom","restart":"3s"}`,
		"die=term":                           `{"die":"term"}`,
		"crash,frames=5":                     `{"crash":true,"frames":5}`,
		"busy,name=full,seed=7,share=1":      `{"busy":true,"name":"full","seed":7,"share":1}`,
		"missing":                            `{"missing":true}`,
		"file-gone":                          `{"file_gone":true}`,
		"load-fails=no memory":               `{"load_fails":"no memory"}`,
		"tags=ghost+-tiny,ps=ghost":          `{"tags":["ghost","-tiny"],"ps":["ghost"]}`,
		`{"status":302,"headers":{"A":"b"}}`: `{"status":302,"headers":{"A":"b"}}`,
	} {
		a, err := simnode.ParseFault(words)
		if err != nil {
			t.Errorf("%s: %v", words, err)
			continue
		}
		b, err := simnode.ParseFault(text)
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s is\n\t%+v, %s is\n\t%+v (%v)", words, a, text, b, err)
		}
		written, err := json.Marshal(a)
		var back simnode.Fault
		if err == nil {
			err = json.Unmarshal(written, &back)
		}
		if err != nil || !reflect.DeepEqual(a, back) {
			t.Errorf("%s: written as %s, read as %+v (%v)", words, written, back, err)
		}
	}
}

func TestParseFault_SaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "unrecognized word",
		"statsu=500":                 `unrecognized word "statsu"; there are flap`,
		"status=abc":                 "whole number",
		"status=99":                  "200 to 599",
		"share=0.1":                  "does nothing",
		"status=500,share=2":         "at most 1",
		"slow=0":                     "above 0",
		"slow=-1":                    "above 0",
		"first-byte=5":               "a time as",
		"flap=5":                     "a time as",
		"flap=10s,for=20s":           "shorter than period",
		"refuse,period=10s":          "needs for",
		"refuse,path=/api/chat":      "know no requests",
		"refuse,status=500":          "know no requests",
		"die=softly":                 `one of ["kill" "term"]`,
		"tls=old":                    "expired",
		"explode-after=3":            `end "explode"`,
		"reset-after=x":              "number of frames",
		"giant-line=2TB":             "64MiB",
		"never=perhaps":              "switch",
		"body=x,never":               "needs a status",
		"restart=1s,never":           "needs die",
		"frames=-1,crash":            "negative",
		`{"status":500,"shrae":0.1}`: "shrae",
		`{"status":500,"gap":"x"}`:   "a time as",
		`{"status":500`:              "unexpected",
	} {
		if _, err := simnode.ParseFault(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %s", text, err, want)
		}
	}
}

func TestSetFaults_KeepsTheOldOnesWhenOneIsWrong(t *testing.T) {
	n := newNode(t)
	if err := n.SetFaults(simnode.Fault{Never: true}); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []simnode.Fault{{}, {Never: true, Model: "a b"}, {End: "x"}} {
		if err := n.SetFaults(simnode.Fault{Busy: true}, wrong); err == nil || !strings.HasPrefix(err.Error(), "fault 2: ") {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	if got := n.Faults(); len(got) != 1 || !got[0].Never || got[0].Name != "1" {
		t.Errorf("got %+v", got)
	}
}

// FuzzParseFault holds it to this: what it takes is a fault that a node takes, and is read as it is written.
func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"status=500,share=0.1", "flap=10s", `{"gap":"1s"}`, "reset-after=3B", "giant-line=1GiB", "tags=a+-b", "=", ",", "-after=1"} {
		f.Add(s)
	}
	n := simnode.New(simnode.Options{})
	f.Cleanup(n.Close)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := simnode.ParseFault(text)
		if err != nil {
			return
		}
		if err := n.SetFaults(a); err != nil && a.Model == "" {
			t.Fatalf("%q: %v", text, err)
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := simnode.ParseFault(string(written)); err != nil {
			t.Fatalf("%q: written as %s: %v", text, written, err)
		}
	})
}
