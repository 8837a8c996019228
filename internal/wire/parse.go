package wire

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Parse reads the body of a request as a node reads it and refuses what could be read in two
// ways: keys that fold to one field, keys twice in a map, data after the JSON value. What it
// gives on is what was judged, each field under its canonical name.
//
// The error is a *BadRequest, except for a route that has no body to judge, which is a
// mistake of the caller. body must not change afterwards: the Request holds parts of it. The
// work is linear in the body, sorting the keys of an object apart. Memory is a small multiple
// of it in the worst case and does not grow with it in the usual one.
func Parse(route Route, body []byte) (*Request, error) {
	return ParseAdjusted(route, body, Adjust{})
}

// ParseAdjusted is Parse of the request as a changes it; body stays as it is. The Request says
// in Changed what was changed, and in all else only what is left.
func ParseAdjusted(route Route, body []byte, a Adjust) (*Request, error) {
	f, ok := forms[route.Path]
	if !ok {
		return nil, fmt.Errorf("wire: no body to parse on %s", route.Path)
	}
	r, err := f.read(route.Dialect, body)
	var request *Request
	if err == nil {
		request, err = f.judge(route, r)
	}
	if err != nil {
		if bad, ok := err.(*BadRequest); ok && bad.Reason != ReasonCloudModel {
			bad.Dialect = route.Dialect
		}
		return nil, err
	}
	r.adjust(request, a)
	request.Body = f.upstream(r, request.Task)
	switch route.Operation {
	case Show:
	case Embed: // as many patches as it has fields, and they make further bodies: see Embedding
		patches := r.patches
		request.source = r.rest()
		request.source.patches = patches
	default:
		request.source = r.rest()
	}
	return request, nil
}

// read judges the syntax and the types of a body.
func (f *form) read(d Dialect, body []byte) (*reading, error) {
	// A decoder that reads from a bytes.Buffer works on the bytes themselves and leaves them
	// as they are, other than with other readers.
	syntax := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err := syntax.SkipValue(); err != nil {
		return nil, explainSyntax(body, d)
	}
	end := syntax.InputOffset()
	value, rest := body[:end], body[end:]
	r := newReading(value, len(value)-len(trimSpace(value)), isClean(value), f.schema)
	if err := r.value(f.schema); err != nil {
		return nil, f.schema.explain(err)
	}
	if len(trimSpace(rest)) > 0 {
		return nil, trailingData()
	}
	return r, nil
}

// rest is what stays of a reading that is done: where the fields are. What a client can make
// grow beyond its body is let go.
func (r *reading) rest() *reading {
	r.patches, r.marks, r.text, r.fold = nil, nil, nil, nil
	return r
}

// trimSpace takes JSON's white space off the front.
func trimSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// judge makes the checks that a node makes before it looks for the model, in its order.
func (f *form) judge(route Route, r *reading) (*Request, error) {
	model, err := f.model(r)
	if bad, ok := err.(*BadRequest); ok && bad.Reason == ReasonCloudModel && route.Dialect != Ollama {
		// On /v1 a node sends such a request away before its translators look at it.
		return nil, err
	}
	if f.translate != nil {
		if err := f.translate(r); err != nil {
			return nil, err
		}
	}
	if err := r.checkTopLogprobs(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if f.texts && !r.isTexts("input") {
		return nil, late(http.StatusBadRequest, ReasonWrongType, "invalid input type")
	}

	q := &Request{Route: route, Model: model, Stream: route.Dialect == Ollama && f.streams}
	if stream := r.raw("stream"); stream != nil && f.streams {
		q.Stream = isTrue(stream)
	}
	if f.usage {
		q.IncludeUsage = isTrue(r.inner("stream_options").raw("include_usage"))
	}
	if keep, ok := parseKeepAlive(r.raw("keep_alive")); ok {
		q.KeepAlive = &keep
	}
	if route.Operation == Show {
		q.Verbose, q.System = isTrue(r.raw("verbose")), !r.isEmpty("system")
	} else if options := r.raw("options"); options != nil {
		q.Runner, q.sampling = r.runnerOptions()
		q.Options = options
		if !r.clean {
			q.Options = assemble(options, 0, len(options), nil, false).Bytes()
		}
	}
	q.Task = f.task(r, q)
	if route.Operation != Show {
		q.Context = tokens(r.raw("context"))
		q.Hazard = r.hazard(q)
	}
	return q, nil
}

// model reads who is asked.
func (f *form) model(r *reading) (ModelName, error) {
	spelling := r.string("model")
	if spelling == "" && f.oldName {
		spelling = r.string("name")
	}
	trimmed := strings.TrimSpace(spelling)
	if trimmed == "" {
		message := f.noModel
		if strings.Contains(message, "%s") {
			message = fmt.Sprintf(message, spelling)
		}
		return ModelName{}, late(f.noModelStatus, ReasonNoModel, message)
	}
	name, err := ParseModelName(spelling)
	switch {
	case err != nil && isTwiceSuffixed(trimmed):
		return ModelName{}, late(http.StatusBadRequest, ReasonBadModelName, fmt.Sprintf("use either :local or :cloud, not both: %q", trimmed))
	case err != nil:
		return ModelName{}, late(http.StatusBadRequest, ReasonBadModelName, "invalid model name")
	case name.Cloud():
		return ModelName{}, late(http.StatusForbidden, ReasonCloudModel, f.cloud)
	}
	return name, nil
}

// task tells whether the request is work or a command. The order is a node's: without a
// prompt nothing is rendered.
func (f *form) task(r *reading, q *Request) Task {
	switch {
	case f.commands != nil && f.commands(r):
		if q.KeepAlive != nil && *q.KeepAlive == 0 {
			return Unload
		}
		return Load
	case isTrue(r.raw("_debug_render_only")):
		return Render
	}
	return Answer
}

// upstream is what a node gets: the body as it was judged, asking for a stream where there is
// one. What is no answer is asked for in the client's own shape: in its own dialect a node has
// one object for both, and a translator loses a rendering in a stream.
func (f *form) upstream(r *reading, task Task) Body {
	patches := r.patches
	if f.streams && task == Answer {
		patches = append(patches, r.set("stream", "true")...)
		if f.usage {
			if options := r.inner("stream_options"); options.values != nil {
				patches = append(patches, options.set("include_usage", "true")...)
			} else {
				patches = append(patches, r.set("stream_options", `{"include_usage":true}`)...)
			}
		}
		slices.SortStableFunc(patches, func(a, b patch) int { return cmp.Compare(a.from, b.from) })
	}
	return assemble(r.body, r.from, r.at, patches, r.clean)
}
