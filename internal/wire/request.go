package wire

import "time"

// A Request is an inference or show request as the parser read it: unambiguous, with one
// spelling for each field. It is immutable and safe for concurrent use.
type Request struct {
	Route Route
	Model ModelName // what is asked for; its Spelling is what answers echo

	// Stream tells whether the client wants frames or a single answer.
	Stream bool
	// IncludeUsage tells whether an OpenAI client asked for the usage chunk of a stream.
	IncludeUsage bool
	// Task is Infer work, or one of the commands that a node answers with one JSON object
	// even on a stream route.
	Task Task
	// Runner holds the runner options that the request sets itself.
	Runner RunnerOptions
	// Options is the JSON object of that name as the client wrote it, nil if there is none or
	// the operation knows none. Its keys are unique.
	Options []byte
	// KeepAlive is how long the model stays loaded afterwards, if the request says so.
	// Negative: for ever.
	KeepAlive *time.Duration
	// Verbose and System are those of a show request.
	Verbose, System bool

	// Hazard is what in the request is known to kill a node, nil if nothing is. The parser lets
	// it pass: a gateway that guards its nodes answers it.
	Hazard *BadRequest
	// Context is the range of a native "context", which must be within the model's vocabulary.
	Context TokenRange

	// Changed is what ParseAdjusted has changed, for the client: "num_ctx" if it was taken out,
	// "num_ctx=8192" if it was lowered, and the same of keep_alive, in seconds. In this order.
	Changed []string

	// Body is what is sent to a node: the judged body, streamed where the operation has a
	// stream, with usage where the dialect hides it.
	Body Body

	sampling Sampling // of Options

	source *reading // where the fields are in the body that came, nil for show
}

// A Task is what a text or embedding request makes a node do.
type Task uint8

const (
	Answer Task = iota // generate text or vectors
	Load               // empty prompt: load the model
	Unload             // empty prompt and keep_alive 0: unload it
	Render             // _debug_render_only: render the template, run nothing
)

// RunnerOptions are the options that are fixed when a model is loaded; a request with other
// ones makes a node reload it (ollama-api 9). Nil pointers would not compare, so each is a
// value with a flag. It is comparable and can be a map key.
type RunnerOptions struct {
	NumCtx, NumBatch, NumGPU, MainGPU, NumThread OptionalInt
	UseMMap                                      OptionalBool
}

// An OptionalInt is an int that may be absent.
type OptionalInt struct {
	Value int
	Set   bool
}

// An OptionalFloat is a float64 that may be absent.
type OptionalFloat struct {
	Value float64
	Set   bool
}

// An OptionalBool is a bool that may be absent.
type OptionalBool struct{ Value, Set bool }

// Over gives the options of r where set, else those of base: a request's over its model's.
func (r RunnerOptions) Over(base RunnerOptions) RunnerOptions {
	r.NumCtx = r.NumCtx.or(base.NumCtx)
	r.NumBatch = r.NumBatch.or(base.NumBatch)
	r.NumGPU = r.NumGPU.or(base.NumGPU)
	r.MainGPU = r.MainGPU.or(base.MainGPU)
	r.NumThread = r.NumThread.or(base.NumThread)
	if !r.UseMMap.Set {
		r.UseMMap = base.UseMMap
	}
	return r
}

// Map gives the options that are set, by their names on the wire.
func (r RunnerOptions) Map() map[string]any {
	m := make(map[string]any)
	for name, o := range map[string]OptionalInt{
		"num_ctx": r.NumCtx, "num_batch": r.NumBatch, "num_gpu": r.NumGPU, "main_gpu": r.MainGPU, "num_thread": r.NumThread,
	} {
		if o.Set {
			m[name] = o.Value
		}
	}
	if r.UseMMap.Set {
		m["use_mmap"] = r.UseMMap.Value
	}
	return m
}

func (o OptionalInt) or(base OptionalInt) OptionalInt {
	if o.Set {
		return o
	}
	return base
}
