package simnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A Fault is one thing that is wrong with a node: which requests it strikes, when, and what happens to them. Requests
// that it does not strike are answered as ever. Where several faults of a list strike one request all of them act, the
// first one outermost: waits add up, and an answer that one makes up is not seen by those behind it.
//
// In JSON the fields have the names below, and durations are written "1.5s". ParseFault reads a shorter form.
type Fault struct {
	// Name is under which Stats.Faulted counts it. Default: its number in the list, from "1".
	Name string `json:"name,omitempty"`

	// Path is the path of the requests it strikes, exact, or up to a "*" at its end; "*" is every path. Default: the
	// routes that make text or vectors, for Tags and PS those that list models, and for NoSpace and Upload those that
	// take files in. The admin route is never struck.
	Path string `json:"path,omitempty"`

	// Model strikes only requests for this model, by any of its spellings. Blobs are of no model.
	Model string `json:"model,omitempty"`

	// Contains strikes only requests whose body has this text in it: a query of death.
	Contains string `json:"contains,omitempty"`

	Skip  int     `json:"skip,omitempty"`  // lets the first n such requests pass
	Every int     `json:"every,omitempty"` // strikes only every nth such request
	Share float64 `json:"share,omitempty"` // strikes this share of such requests, above 0 and at most 1, at random
	Seed  uint64  `json:"seed,omitempty"`  // makes Share's choice repeatable. Default: random.
	First int     `json:"first,omitempty"` // strikes n times at most

	// After, For and Period say when it is there, counted from when it was set: from After on, for the time For (0: for
	// ever), and then again each Period (0: once).
	After  time.Duration `json:"-"`
	For    time.Duration `json:"-"`
	Period time.Duration `json:"-"`

	// What follows strikes connections. It knows no requests, so nothing but the times above may stand beside it. It
	// needs a Server or a Pipe; behind another server Refuse cuts requests without an answer and the others do nothing.

	// Refuse refuses connections as a machine without the server does. Idle connections are closed, running answers
	// come to their end.
	Refuse bool `json:"refuse,omitempty"`

	// HangAccept listens and never accepts. On Linux the backlog is full, too, so that connecting itself hangs.
	HangAccept bool `json:"hang_accept,omitempty"`

	// Deaf accepts new connections and reads nothing. They are served when the fault is over.
	Deaf bool `json:"deaf,omitempty"`

	// TLS, on a Server with TLS, presents a certificate that is "expired", has the "wrong-name" or is "untrusted", or
	// speaks "plain" HTTP.
	TLS string `json:"tls,omitempty"`

	// What follows answers in the node's place.

	Never bool `json:"never,omitempty"` // reads the request and holds it until the client leaves

	// Status answers with this status and Body. Without Body it is an error in the dialect of the route.
	Status   int    `json:"status,omitempty"`
	Body     string `json:"body,omitempty"`
	Redirect string `json:"redirect,omitempty"` // is the Location of a redirect. Status: 307.

	// What follows changes an answer, the node's own or a made-up one. A frame is a record or an event of a stream, or a whole answer.

	// Type is the answer's content type instead of the right one, and Headers are other headers it has.
	Type    string            `json:"type,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`

	FirstByte time.Duration `json:"-"` // waits before the first byte, headers included; also before Status and End
	Gap       time.Duration `json:"-"` // waits before each further frame

	// Frames and Bytes say how much of the answer passes before what follows happens; Bytes counts the body, for End
	// alone, and goes before Frames. Nothing happens to an answer that is shorter. With neither, Die and the ends "reset"
	// and "close" come as soon as the request is there, without a byte of an answer.
	Frames int `json:"frames,omitempty"`
	Bytes  int `json:"bytes,omitempty"`

	// End ends the answer: "reset" resets the connection (SO_LINGER 0; a Pipe closes), "close" closes it without the end
	// of the answer, "half" closes it within a chunk or short of the Content-Length, "clean" ends the answer orderly as
	// if that had been all.
	End string `json:"end,omitempty"`

	// Upload lets Never, Die, and the ends "reset" and "close" come when so many bytes of the request's body have been
	// read, instead of what Frames and Bytes say. Nothing happens to a shorter body. With Never the rest is not read.
	Upload int64 `json:"upload,omitempty"`

	// TooLong promises this many bytes more in Content-Length than come. The answer is held back until it is complete.
	TooLong int `json:"too_long,omitempty"`

	BadLine   string `json:"bad_line,omitempty"`   // puts this text in as a frame
	GiantLine int64  `json:"giant_line,omitempty"` // puts a frame in of as many bytes

	// What follows happens to the node itself.

	// Crash ends the runner of the model, with all its answers, after Frames tokens or at the end of a shorter answer.
	// The next request loads the model again.
	Crash bool `json:"crash,omitempty"`

	// Die ends the node: by "kill" its runners stay behind and hold their memory, by "term" they end as well.
	Die     string        `json:"die,omitempty"`
	Restart time.Duration `json:"-"` // when it is back after Die. Default: Options.Restart.

	LoadFails string  `json:"load_fails,omitempty"` // fails a load with this text; a loaded model stays as it is
	FileGone  bool    `json:"file_gone,omitempty"`  // the model's file is gone: it can do nothing, and is still listed
	Busy      bool    `json:"busy,omitempty"`       // the queue of loads is full: 503
	Missing   bool    `json:"missing,omitempty"`    // the model is not there: 404
	NoSpace   bool    `json:"no_space,omitempty"`   // the disk is full: no layer and no blob comes in
	Slow      float64 `json:"slow,omitempty"`       // multiplies loads, prompts and tokens

	// Tags and PS change the lists of installed and of loaded models: a name adds a model that is not there, a name
	// behind a minus hides one.
	Tags []string `json:"tags,omitempty"`
	PS   []string `json:"ps,omitempty"`
}

// onConnections reports whether the fault strikes connections.
func (f *Fault) onConnections() bool { return f.Refuse || f.HangAccept || f.Deaf || f.TLS != "" }

// lies reports whether the fault changes lists of models.
func (f *Fault) lies() bool { return len(f.Tags) > 0 || len(f.PS) > 0 }

// onFiles reports whether the fault is one of files that come in.
func (f *Fault) onFiles() bool { return f.NoSpace || f.Upload > 0 }

// onAnswers reports whether the fault does anything to requests.
func (f *Fault) onAnswers() bool {
	return f.Never || f.Status != 0 || f.Redirect != "" || f.Type != "" || len(f.Headers) > 0 || f.FirstByte > 0 || f.Gap > 0 || f.End != "" ||
		f.TooLong > 0 || f.BadLine != "" || f.GiantLine > 0 || f.Crash || f.Die != "" || f.LoadFails != "" || f.FileGone ||
		f.Busy || f.Missing || f.NoSpace || f.Slow != 0 || f.lies()
}

// chooses reports whether the fault is particular about requests.
func (f *Fault) chooses() bool {
	return f.Path != "" || f.Model != "" || f.Contains != "" || f.Skip > 0 || f.Every > 0 || f.Share != 0 || f.First > 0
}

// check returns what is wrong with the fault, in words for who wrote it.
func (f *Fault) check() error {
	oneOf := func(field, value string, words ...string) error {
		for _, w := range words {
			if value == "" || value == w {
				return nil
			}
		}
		return fmt.Errorf("%s %q: say one of %q", field, value, words)
	}
	negative := f.Skip < 0 || f.Every < 0 || f.First < 0 || f.Frames < 0 || f.Bytes < 0 || f.TooLong < 0 || f.GiantLine < 0 || f.Upload < 0
	for _, d := range f.durations() {
		negative = negative || *d.value < 0
	}
	switch {
	case negative:
		return errors.New("no number and no time may be negative")
	case !f.onConnections() && !f.onAnswers():
		return errors.New("it does nothing")
	case f.onConnections() && (f.chooses() || f.onAnswers()):
		return errors.New("refuse, hang_accept, deaf and tls strike connections, which know no requests: use two faults")
	case f.Share < 0 || f.Share > 1:
		return fmt.Errorf("share %g: say a number above 0 and at most 1", f.Share)
	case f.Slow < 0:
		return fmt.Errorf("slow %g: say a factor above 0", f.Slow)
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("status %d: say one from 200 to 599", f.Status)
	case f.Status == 0 && f.Redirect == "" && f.Body != "":
		return errors.New("body needs a status")
	case f.Period > 0 && f.For == 0:
		return errors.New("period needs for, the part of it in which the fault is there")
	case f.Period > 0 && f.For >= f.Period:
		return errors.New("for must be shorter than period")
	case f.Upload > 0 && !f.Never && f.Die == "" && f.End != "reset" && f.End != "close":
		return errors.New("upload needs never, die, or the end reset or close")
	case f.Restart > 0 && f.Die == "":
		return errors.New("restart needs die")
	}
	return errors.Join(
		oneOf("end", f.End, "reset", "close", "half", "clean"),
		oneOf("tls", f.TLS, "expired", "wrong-name", "untrusted", "plain"),
		oneOf("die", f.Die, "kill", "term"))
}

// A span is a field that JSON writes as text.
type span struct {
	key   string
	value *time.Duration
}

func (f *Fault) durations() []span {
	return []span{
		{"after", &f.After},
		{"for", &f.For},
		{"period", &f.Period},
		{"first_byte", &f.FirstByte},
		{"gap", &f.Gap},
		{"restart", &f.Restart},
	}
}

// The same fields as text; a field here hides none of a Fault's, which JSON does not see.
type faultText struct {
	*plainFault
	After     string `json:"after,omitempty"`
	For       string `json:"for,omitempty"`
	Period    string `json:"period,omitempty"`
	FirstByte string `json:"first_byte,omitempty"`
	Gap       string `json:"gap,omitempty"`
	Restart   string `json:"restart,omitempty"`
}

type plainFault Fault

func (t *faultText) texts() []*string {
	return []*string{&t.After, &t.For, &t.Period, &t.FirstByte, &t.Gap, &t.Restart} // as durations
}

// MarshalJSON writes the fields that are set.
func (f Fault) MarshalJSON() ([]byte, error) {
	t := faultText{plainFault: (*plainFault)(&f)}
	for i, d := range f.durations() {
		if *d.value != 0 {
			*t.texts()[i] = d.value.String()
		}
	}
	return json.Marshal(t)
}

// UnmarshalJSON refuses fields that do not exist.
func (f *Fault) UnmarshalJSON(b []byte) error {
	*f = Fault{}
	t := faultText{plainFault: (*plainFault)(f)}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return err
	}
	for i, d := range f.durations() {
		text := *t.texts()[i]
		if text == "" {
			continue
		}
		var err error
		if *d.value, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("%s %q: say a time as 1.5s or 200ms", d.key, text)
		}
	}
	return nil
}
