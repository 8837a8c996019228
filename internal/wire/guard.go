package wire

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// What is known to kill a node, or to keep it from all other work, as seen on Ollama 0.24.0
// (ollama-api 11) and read in its sources. A node refuses none of it. The parser only tells of
// it, in Request.Hazard and Request.Context: whether it is let through is for who asks.

// The reasons of a Hazard.
const (
	ReasonDeadlyOption   = "deadly_option"   // an option that a node's runner does not survive
	ReasonDeadlySchema   = "deadly_schema"   // a schema that its translation into a grammar does not survive
	ReasonDeadlyTemplate = "deadly_template" // a template that may write without end
	ReasonDeadlyContext  = "deadly_context"  // a number that may be no token of the model
)

// TokenRange is the least and the greatest of a list of numbers that stand for tokens. A node
// looks each up in the model's vocabulary without a check, and one that is not there ends the
// whole server. The zero value is that of an empty list.
type TokenRange struct {
	Least, Most int
	Set         bool // there is a number
}

// Within tells whether all numbers are tokens of a vocabulary of so many. Of a size that is
// not known, which is 0, nothing is.
func (t TokenRange) Within(vocabulary int) bool {
	return !t.Set || t.Least >= 0 && t.Most < vocabulary
}

// tokens reads the range of a list of whole numbers.
func tokens(list []byte) (t TokenRange) {
	if list == nil {
		return t
	}
	for element := range elements(list) {
		n, err := strconv.Atoi(string(element)) // judged: a whole number, or null for 0
		if err != nil {
			n = 0
		}
		if !t.Set {
			t = TokenRange{n, n, true}
		}
		t.Least, t.Most = min(t.Least, n), max(t.Most, n)
	}
	return t
}

// hazard finds the first thing in a request that is known to kill a node.
func (r *reading) hazard(q *Request) *BadRequest {
	message := ""
	reason := ReasonDeadlyOption
	if q.Options != nil {
		message = r.deadlyOption(q.Runner)
	} else {
		message = r.deadlyField()
	}
	if message == "" {
		if schema := r.answerSchema(); schema != nil {
			reason, message = ReasonDeadlySchema, deadlySchema(schema)
		}
	}
	if message == "" {
		if template := r.string("template"); template != "" && !isPlainTemplate(template) {
			reason = ReasonDeadlyTemplate
			message = "the field \"template\" may hold text and fields such as {{ .System }} and {{ .Prompt }} here, also in {{ if }} and {{ range }}, and " +
				strconv.Itoa(actionLimit) + " of them at most: others can make a node write without end"
		}
	}
	if message == "" {
		return nil
	}
	return &BadRequest{
		Status: http.StatusBadRequest, Reason: reason, Dialect: q.Route.Dialect,
		Message: shorten(message, messageLimit),
	}
}

const (
	// threadLimit is GGML_MAX_N_THREADS. No machine gains by more, and with 100000 a node
	// neither loads nor answers.
	threadLimit = 512
	// batchLimit is what a node's 32 bits hold. Within it a node cuts a batch to the context.
	batchLimit = math.MaxInt32

	// A logit, some tens in size, is divided by the penalty, or multiplied by it if negative.
	// Beyond these bounds it leaves the range of float32, which ends at 3.4e38, and sampling
	// then crashes the runner.
	leastPenalty = 1e-30
	mostPenalty  = 1e30
)

// deadlyOption judges the options of a native request, by the keys that a node knows.
func (r *reading) deadlyOption(o RunnerOptions) string {
	switch {
	case o.NumBatch.Set && (o.NumBatch.Value < 1 || o.NumBatch.Value > batchLimit):
		return fmt.Sprintf("the option \"num_batch\" must be between 1 and %d, or a node cannot load the model; leave it out for the default", batchLimit)
	case o.NumThread.Set && o.NumThread.Value > threadLimit:
		return fmt.Sprintf("the option \"num_thread\" must be %d at most, or a node is busy for minutes; leave it out for the default", threadLimit)
	}
	in := reading{body: r.body, at: r.span("options").from, clean: r.clean}
	for ok := in.enter('}'); ok; ok = in.next('}') {
		key, _ := in.key()
		name := ""
		switch string(key) {
		case "repeat_penalty", "presence_penalty", "frequency_penalty":
			name = string(key)
		}
		from := in.at
		in.skip()
		if name != "" && isDeadlyPenalty(name, in.body[from:in.at]) {
			return deadlyPenalty(name)
		}
	}
	return ""
}

// deadlyField judges the fields that a translator of /v1 turns into options.
func (r *reading) deadlyField() string {
	for _, name := range [...]string{"presence_penalty", "frequency_penalty"} {
		if value := r.raw(name); value != nil && isDeadlyPenalty(name, value) {
			return deadlyPenalty(name)
		}
	}
	return ""
}

func deadlyPenalty(name string) string {
	if name == "repeat_penalty" {
		return "the option \"repeat_penalty\" must not be 0 or nearly so, nor beyond 1e30, or the model crashes; 1 turns it off"
	}
	return fmt.Sprintf("%q must not be beyond 1e30, or the model crashes; 0 turns it off", name)
}

// isDeadlyPenalty tells whether a penalty makes a logit infinite. What is no number is left to
// the node, which refuses it.
func isDeadlyPenalty(name string, value []byte) bool {
	if !isNumber(value[0]) {
		return false
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil {
		return true // beyond float64
	}
	f = math.Abs(f)
	return f > mostPenalty || name == "repeat_penalty" && f < leastPenalty
}

// answerSchema is the JSON Schema that an answer is to follow, nil if there is none. A format
// that is no object is a word, which a node knows or refuses.
func (r *reading) answerSchema() []byte {
	schema := r.raw("format")
	if format := r.raw("response_format"); format != nil {
		if schema = pick(format, "json_schema", folds); schema != nil {
			schema = pick(schema, "schema", folds)
		}
	} else if text := r.raw("text"); text != nil {
		if schema = pick(text, "format", folds); schema != nil {
			schema = pick(schema, "schema", folds)
		}
	}
	if schema == nil || schema[0] != '{' {
		return nil
	}
	return schema
}

// actionLimit is how many actions a template may have: it also bounds how many times it may
// repeat the prompt. Those of models have ten to thirty.
const actionLimit = 32

// isPlainTemplate tells whether a template only puts fields between texts. Everything else is
// a program: a loop over a number, a width in printf or a variable doubled forty times writes
// until the node's memory is gone. A template that a node cannot parse is harmless.
func isPlainTemplate(template string) bool {
	loops, blocks := 0, []bool{} // of each open block, whether it is a loop
	for range actionLimit + 1 {
		_, rest, found := strings.Cut(template, "{{")
		if !found {
			return true
		}
		action, rest, closed := strings.Cut(rest, "}}")
		if !closed {
			return true // a node cannot parse it
		}
		template = rest
		action = strings.Trim(trimMarks(action), " \t\r\n")
		word, argument, _ := strings.Cut(action, " ")
		argument = strings.TrimLeft(argument, " ")
		switch {
		case isTemplateField(action), action == "else":
		case word == "if" && isTemplateField(argument):
			blocks = append(blocks, false)
		case word == "else" && strings.HasPrefix(argument, "if ") && isTemplateField(strings.TrimLeft(argument[3:], " ")):
		case word == "range" && loops == 0 && (argument == ".Messages" || argument == "$.Messages"):
			loops++ // of a few messages; a loop in a loop multiplies
			blocks = append(blocks, true)
		case action == "end" && len(blocks) > 0:
			if last := len(blocks) - 1; blocks[last] {
				loops--
			}
			blocks = blocks[:len(blocks)-1]
		default:
			return false
		}
	}
	return false
}

// trimMarks takes off the marks that trim the text around an action.
func trimMarks(action string) string {
	if len(action) > 1 && action[0] == '-' && strings.IndexByte(" \t\r\n", action[1]) >= 0 {
		action = action[1:]
	}
	if n := len(action); n > 1 && action[n-1] == '-' && strings.IndexByte(" \t\r\n", action[n-2]) >= 0 {
		action = action[:n-1]
	}
	return action
}

// isTemplateField tells whether an action is one field: .Prompt, or $.Prompt within a loop.
// Messages as a whole would be written with all their images, as numbers.
func isTemplateField(action string) bool {
	name := strings.TrimPrefix(action, "$")
	if len(name) < 2 || name[0] != '.' {
		return false
	}
	for _, c := range []byte(name[1:]) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return !bytes.EqualFold([]byte(name[1:]), []byte("messages"))
}
