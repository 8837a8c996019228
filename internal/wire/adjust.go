package wire

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Adjust is what is taken out of requests, or lowered in them, before they are sent on. The
// zero value changes nothing. Only the native routes take these fields.
type Adjust struct {
	WithoutNumCtx bool // option num_ctx is taken out: the model's own applies
	MaxNumCtx     int  // tokens: a greater num_ctx is lowered to it. 0: no limit

	// WithoutKeepAlive takes keep_alive out, whatever it says. An Unload stays what it is:
	// without the field it would be a Load.
	WithoutKeepAlive bool
	// MaxKeepAlive is what a longer keep_alive, or one that is for ever, is lowered to. 0: no
	// limit.
	MaxKeepAlive time.Duration
}

// adjust changes what has been judged: the request, and the patches that make its body.
func (r *reading) adjust(q *Request, a Adjust) {
	if a == (Adjust{}) {
		return
	}
	r.adjustNumCtx(q, a)
	r.adjustKeepAlive(q, a)
	slices.SortStableFunc(r.patches, func(a, b patch) int { return cmp.Compare(a.from, b.from) })
}

func (r *reading) adjustNumCtx(q *Request, a Adjust) {
	tooLarge := a.MaxNumCtx > 0 && q.Runner.NumCtx.Set && q.Runner.NumCtx.Value > a.MaxNumCtx
	if q.Options == nil || !a.WithoutNumCtx && !tooLarge {
		return
	}
	options := r.span("options")
	value, whole := r.place(options, func(key []byte, _ int) bool { return string(key) == "num_ctx" })
	var change patch
	switch {
	case value.to == 0:
		return
	case a.WithoutNumCtx:
		change = patch{whole.from, whole.to, ""}
		q.Runner.NumCtx = OptionalInt{}
		q.Changed = append(q.Changed, "num_ctx")
	default:
		limit := strconv.Itoa(a.MaxNumCtx)
		change = patch{value.from, value.to, limit}
		q.Runner.NumCtx.Value = a.MaxNumCtx
		q.Changed = append(q.Changed, "num_ctx="+limit)
	}
	// The keys of options are free, so nothing else was patched there.
	q.Options = assemble(r.body, options.from, options.to, []patch{change}, r.clean).Bytes()
	r.patches = append(r.patches, change)
}

func (r *reading) adjustKeepAlive(q *Request, a Adjust) {
	if q.KeepAlive == nil {
		return
	}
	at := r.span("keep_alive")
	switch {
	case a.WithoutKeepAlive && q.Task != Unload:
		_, whole := r.place(span{r.from, r.at}, func(_ []byte, value int) bool { return value == at.from })
		// With the field goes what would have become of the spelling of its name.
		r.patches = slices.DeleteFunc(r.patches, func(p patch) bool { return whole.from <= p.from && p.to <= whole.to })
		r.patches = append(r.patches, patch{whole.from, whole.to, ""})
		q.KeepAlive = nil
		q.Changed = append(q.Changed, "keep_alive")
	case a.MaxKeepAlive > 0 && (*q.KeepAlive < 0 || *q.KeepAlive > a.MaxKeepAlive):
		seconds := strconv.FormatFloat(a.MaxKeepAlive.Seconds(), 'f', -1, 64)
		r.patches = append(r.patches, patch{at.from, at.to, seconds})
		limit := a.MaxKeepAlive
		q.KeepAlive = &limit
		q.Changed = append(q.Changed, "keep_alive="+seconds)
	}
}

// place finds a member of an object by its key and where its value begins: the value, and the
// whole that is to be taken out, with the comma before it or behind it. Both are the zero span
// if there is none.
func (r *reading) place(object span, is func(key []byte, at int) bool) (value, whole span) {
	in := reading{body: r.body, at: object.from, clean: r.clean}
	before := 0 // where the member before ends
	for ok := in.enter('}'); ok; {
		from := in.at
		key, _ := in.key()
		at := in.at
		found := is(key, at)
		in.skip()
		value := span{at, in.at}
		ok = in.next('}')
		switch {
		case found && before > 0:
			return value, span{before, value.to}
		case found && ok:
			return value, span{from, in.at}
		case found:
			return value, span{from, value.to}
		}
		before = value.to
	}
	return span{}, span{}
}

// Unloaded is what a node answers to an Unload, which it does in the same words if there is
// nothing to unload.
func Unloaded(r *Request, at time.Time) (contentType string, body []byte) {
	body = append(append([]byte(`{"model":`), quoted(r.Model.Spelling)...), `,"created_at":"`...)
	body = at.UTC().AppendFormat(body, time.RFC3339Nano)
	said := `","response":""`
	if r.Route.Operation == Chat {
		said = `","message":{"role":"assistant","content":""}`
	}
	return typeJSONCharset, append(append(body, said...), `,"done":true,"done_reason":"unload"}`...)
}
