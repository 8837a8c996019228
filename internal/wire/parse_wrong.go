package wire

import (
	"fmt"
	"slices"
	"strings"
)

// A wrongValue is a value that a node cannot decode, and the levels above it, innermost first.
//
// encoding/json goes on after such a value and reports the first; but where a type that
// decodes itself fails, it stops, and reports that. So does a reading.
type wrongValue struct {
	value         []byte
	before, after []string
	stops         bool

	// places are the indices of the levels of which a node tells the index. In the document
	// they are 0.
	places []int
}

func (w *wrongValue) Error() string { return "a value has the wrong type" }

// another stands for those that come after the first and are not going to be reported.
var another = new(wrongValue)

// document is the smallest one at which a node fails in the same words as at the whole body.
// Decoding it costs next to nothing, whatever else the body holds.
func (w *wrongValue) document() []byte {
	var d []byte
	for _, level := range slices.Backward(w.before) {
		d = append(d, level...)
	}
	d = append(d, w.value...)
	for _, level := range w.after {
		d = append(d, level...)
	}
	return d
}

// placed puts the places into a node's words for the document, which name them first.
func (w *wrongValue) placed(message string) string {
	var b strings.Builder
	for _, place := range slices.Backward(w.places) {
		before, after, _ := strings.Cut(message, "[0]: ")
		fmt.Fprintf(&b, "%s[%d]: ", before, place)
		message = after
	}
	return b.String() + message
}

// within puts a level above a wrongValue that is on its way out; other errors pass.
func within(err error, before, after string) error {
	if w, ok := err.(*wrongValue); ok && w != another {
		w.before, w.after = append(w.before, before), append(w.after, after)
	}
	return err
}

// holds tells whether a reading goes on after an error. first is where it keeps the one that
// it is going to report.
func holds(first *error, err error) bool {
	w, ok := err.(*wrongValue)
	if !ok || w.stops {
		return false
	}
	if *first == nil {
		*first = err
	}
	return true
}

// wrong refuses the value at from and steps behind it.
func (r *reading) wrong(from int) error {
	r.at = from
	r.skip()
	if r.holding {
		return another
	}
	r.holding = true
	switch c := r.body[from]; c {
	case '[', '{':
		// Only the kind of a value like this shows in the words.
		return &wrongValue{value: []byte{c, c + 2}}
	}
	return &wrongValue{value: r.body[from:r.at]}
}
