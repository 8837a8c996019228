package wire

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// A FrameKind is what a frame is to the answer it belongs to.
type FrameKind uint8

const (
	Part  FrameKind = iota // a piece of the answer
	Usage                  // OpenAI's usage chunk: only for clients that asked
	Final                  // the last frame
	Fault                  // the node's own error record: not for the client as it is
)

// String is the word used in logs and tests.
func (k FrameKind) String() string { return [...]string{"part", "usage", "final", "fault"}[k] }

// ErrFrame says that a frame is none of the dialect: not one JSON value, or of a shape that no
// node sends. The node, or what stands before it, is at fault.
var ErrFrame = errors.New("not a frame of the dialect")

// hiddenFault is the message of a fault that a node does not put into words.
const hiddenFault = "an error was encountered while running the model"

// Totals are what the frames said of the whole answer. A native count or duration that is
// absent means zero; what the dialect does not tell stays zero. None is negative.
type Totals struct {
	PromptTokens, OutputTokens int
	Total, Load, Prompt, Eval  time.Duration
	DoneReason                 string // OpenAI: finish_reason; Anthropic: stop_reason
}

// A Judge reads the frames of one answer in order and tells what each is and when the answer
// is complete. It looks at the fields it knows and passes over new ones. It holds no frame and
// is not safe for concurrent use.
//
// An operation without a stream answers with one object, which is its first and last frame.
type Judge struct {
	read func(j *Judge, frame []byte) (FrameKind, error)

	reader   frameReader
	totals   Totals
	message  string
	finished bool // OpenAI: a choice has a finish_reason
	ended    bool // the last frame has been read
}

// NewJudge judges the answer of one request.
func NewJudge(d Dialect, op Operation) *Judge {
	j := new(Judge)
	switch {
	case d == Ollama && (op == Chat || op == Generate):
		j.read = (*Judge).record
	case d == Ollama && (op == Pull || op == Push || op == Create):
		j.read = (*Judge).progress
	case d == OpenAI && (op == Chat || op == Generate):
		j.read = (*Judge).chunk
	case d == OpenAI && op == Responses:
		j.read = (*Judge).responsesEvent
	case d == Anthropic:
		j.read = (*Judge).messagesEvent
	default:
		j.read = (*Judge).object
	}
	return j
}

// Frame tells what the next frame is. The error wraps ErrFrame; it comes also for whatever
// follows the last frame.
func (j *Judge) Frame(frame []byte) (FrameKind, error) {
	if j.ended {
		return Fault, fmt.Errorf("%w: it follows the last one", ErrFrame)
	}
	kind, err := j.read(j, frame)
	if err != nil {
		return Fault, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return kind, nil
}

// Complete tells whether the whole answer has been read: a native done:true, OpenAI's [DONE]
// after a finish_reason, response.completed or response.incomplete, Anthropic's message_stop,
// a pull's success. Without it a stream that ends in order has failed.
func (j *Judge) Complete() bool { return j.ended }

// Message is the node's own text of a Fault; it may name paths of the node.
func (j *Judge) Message() string { return j.message }

// Totals are final once the answer is complete.
func (j *Judge) Totals() Totals { return j.totals }

// record reads a record of /api/generate or /api/chat.
func (j *Judge) record(frame []byte) (FrameKind, error) {
	r := &j.reader
	var done, known, fault bool
	r.open(frame)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"done"`:
			done, known = r.flag(), true
		case `"message"`:
			r.skip('{')
		case `"response"`, `"model"`:
			r.skip('"')
		case `"error"`:
			fault = j.fault()
		default:
			j.total(name)
		}
	}
	if err := r.close(); err != nil || fault {
		return Fault, err
	}
	if !known {
		return Fault, errors.New("neither done nor an error")
	}
	if !done {
		return Part, nil
	}
	j.ended = true
	return Final, nil
}

// progress reads a line of /api/pull, /api/push or /api/create.
func (j *Judge) progress(frame []byte) (FrameKind, error) {
	r := &j.reader
	var known, fault bool
	r.open(frame)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"status"`:
			known = true
			j.ended = string(r.value('"')) == `"success"`
		case `"error"`:
			fault = j.fault()
		default:
			r.skip(anyKind)
		}
	}
	if err := r.close(); err != nil || fault {
		j.ended = false
		return Fault, err
	}
	if !known {
		return Fault, errors.New("neither status nor an error")
	}
	if j.ended {
		return Final, nil
	}
	return Part, nil
}

// object reads the answer of an operation that has no stream.
func (j *Judge) object(frame []byte) (FrameKind, error) {
	r := &j.reader
	var fault bool
	r.open(frame)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"error"`:
			fault = j.fault()
		case `"usage"`:
			j.usage()
		default:
			j.total(name)
		}
	}
	if err := r.close(); err != nil || fault {
		return Fault, err
	}
	j.ended = true
	return Final, nil
}

// chunk reads a chunk of /v1/chat/completions or /v1/completions.
//
// A node that fails in the middle says so by a chunk without a model, text or finish_reason.
func (j *Judge) chunk(frame []byte) (FrameKind, error) {
	data, err := eventData(frame)
	if err != nil {
		return Fault, err
	}
	if string(data) == "[DONE]" {
		if !j.finished {
			return Fault, errors.New("[DONE] before a finish_reason")
		}
		j.ended = true
		return Final, nil
	}

	r := &j.reader
	choices := -1
	var fault, nameless, says, finish, usage bool
	r.open(data)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"choices"`:
			choices = 0
			for r.enter('['); r.more(); choices++ {
				said, finished := j.choice()
				says, finish = says || said, finish || finished
			}
		case `"model"`:
			nameless = len(r.value('"')) == len(`""`)
		case `"usage"`:
			usage = j.usage()
		case `"error"`:
			fault = j.fault()
		default:
			r.skip(anyKind)
		}
	}
	if err := r.close(); err != nil || fault {
		return Fault, err
	}
	j.finished = j.finished || finish
	switch {
	case choices < 0:
		return Fault, errors.New("neither choices nor an error")
	case choices == 0 && usage:
		return Usage, nil
	case choices > 0 && nameless && !says && !finish:
		j.message = hiddenFault
		return Fault, nil
	}
	return Part, nil
}

// choice reads one of a chunk's choices: whether it says anything, and whether it ends.
func (j *Judge) choice() (says, finish bool) {
	r := &j.reader
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"delta"`:
			r.enter('{')
			for name := r.field(); name != nil; name = r.field() {
				if string(name) == `"role"` {
					r.skip(anyKind)
				} else if v := r.value(anyKind); !isEmpty(v) {
					says = true
				}
			}
		case `"text"`:
			says = says || !isEmpty(r.value('"'))
		case `"finish_reason"`:
			if reason := r.value(anyKind); len(reason) > 0 && reason[0] == '"' {
				j.totals.DoneReason = textOf(reason)
				finish = true
			}
		default:
			r.skip(anyKind)
		}
	}
	return says, finish
}

// messagesEvent reads an event of /v1/messages.
func (j *Judge) messagesEvent(frame []byte) (FrameKind, error) {
	data, err := eventData(frame)
	if err != nil {
		return Fault, err
	}
	r := &j.reader
	kind := Fault
	var known, fault bool
	r.open(data)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"type"`:
			known = true
			switch string(r.value('"')) {
			case `"message_stop"`:
				kind = Final
			case `"error"`:
				fault, j.message = true, cmp.Or(j.message, hiddenFault)
			default:
				kind = Part
			}
		case `"delta"`:
			r.enter('{')
			for name := r.field(); name != nil; name = r.field() {
				if string(name) != `"stop_reason"` {
					r.skip(anyKind)
				} else if reason := r.value(anyKind); len(reason) > 0 && reason[0] == '"' {
					j.totals.DoneReason = textOf(reason)
				}
			}
		case `"usage"`:
			j.usage()
		case `"error"`:
			fault = j.fault() || fault
		default:
			r.skip(anyKind)
		}
	}
	if err := r.close(); err != nil || fault {
		return Fault, err
	}
	if !known {
		return Fault, errors.New("no type")
	}
	j.ended = kind == Final
	return kind, nil
}

// responsesEvent reads an event of /v1/responses. A cut answer ends, too: response.incomplete.
func (j *Judge) responsesEvent(frame []byte) (FrameKind, error) {
	data, err := eventData(frame)
	if err != nil {
		return Fault, err
	}
	r := &j.reader
	kind := Fault
	var known, fault bool
	r.open(data)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"type"`:
			known = true
			switch string(r.value('"')) {
			case `"response.completed"`, `"response.incomplete"`:
				kind = Final
			case `"response.failed"`, `"error"`:
				fault = true
			default:
				kind = Part
			}
		case `"response"`:
			j.response()
		case `"error"`:
			fault = j.fault() || fault
		case `"message"`: // of an error, unless it is in an object
			if text := r.value(anyKind); isText(text) {
				j.message = textOf(text)
			}
		default:
			r.skip(anyKind)
		}
	}
	if err := r.close(); err != nil {
		return Fault, err
	}
	if fault {
		j.message = cmp.Or(j.message, hiddenFault)
		return Fault, nil
	}
	j.message = ""
	if !known {
		return Fault, errors.New("no type")
	}
	j.ended = kind == Final
	return kind, nil
}

// response reads the answer as far as an event of /v1/responses has it.
func (j *Judge) response() {
	r := &j.reader
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"usage"`:
			j.usage()
		case `"status"`:
			j.totals.DoneReason = textOf(r.value('"'))
		case `"error"`:
			j.fault() // the type of the event tells whether it is one
		default:
			r.skip(anyKind)
		}
	}
}

// fault reads the value of an error field: a text, or an object with a message. It tells
// whether there is one.
func (j *Judge) fault() bool {
	r := &j.reader
	switch r.peek() {
	case '"':
		j.message = textOf(r.value('"'))
		return true
	case '{':
		j.message = hiddenFault
		r.enter('{')
		for name := r.field(); name != nil; name = r.field() {
			if string(name) == `"message"` {
				j.message = textOf(r.value('"'))
			} else {
				r.skip(anyKind)
			}
		}
		return true
	}
	r.skip('n')
	return false
}

// usage reads the counts of the /v1 dialects. It tells whether there are any.
func (j *Judge) usage() bool {
	r := &j.reader
	if r.peek() != '{' {
		r.skip('n')
		return false
	}
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"prompt_tokens"`, `"input_tokens"`:
			j.totals.PromptTokens = int(r.count())
		case `"completion_tokens"`, `"output_tokens"`:
			j.totals.OutputTokens = int(r.count())
		default:
			r.skip(anyKind)
		}
	}
	return true
}

// total reads a field of a native record if it is one of the totals, and passes it if not.
func (j *Judge) total(name []byte) {
	r, t := &j.reader, &j.totals
	switch string(name) {
	case `"done_reason"`:
		t.DoneReason = textOf(r.value('"'))
	case `"prompt_eval_count"`:
		t.PromptTokens = int(r.count())
	case `"eval_count"`:
		t.OutputTokens = int(r.count())
	case `"total_duration"`:
		t.Total = time.Duration(r.count())
	case `"load_duration"`:
		t.Load = time.Duration(r.count())
	case `"prompt_eval_duration"`:
		t.Prompt = time.Duration(r.count())
	case `"eval_duration"`:
		t.Eval = time.Duration(r.count())
	default:
		r.skip(anyKind)
	}
}
