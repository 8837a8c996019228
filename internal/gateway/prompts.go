package gateway

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// promptsRoute is where batches of prompts go. It is the gateway's own: no node knows it.
var promptsRoute = wire.Route{
	Methods: []string{http.MethodPost}, Path: "/api/batch", Dialect: wire.Ollama, Operation: wire.Batch, Access: wire.Infer,
}

// Defaults of PromptsConfig.
const (
	DefaultPromptItems       = 10000
	DefaultPromptConcurrency = 16 // enough for a few nodes; those that wait cost a place in the queue each
)

// A PromptsConfig bounds one batch of prompts. The zero value works.
type PromptsConfig struct {
	MaxItems    int // of one batch; one with more gets 413. Default: 10,000.
	Concurrency int // items on their way at once, waiting ones too. Default: 16.
}

func (c PromptsConfig) withDefaults() PromptsConfig {
	if c.MaxItems == 0 {
		c.MaxItems = DefaultPromptItems
	}
	if c.Concurrency == 0 {
		c.Concurrency = DefaultPromptConcurrency
	}
	return c
}

const (
	// promptWindow is by how many times its concurrency an ordered batch may be ahead of its
	// slowest item: enough for answers that take a few times longer than others.
	promptWindow = 4
	// promptsTaken is when the answer begins if no result is there by then.
	promptsTaken = time.Second
	// heldLimit is how many bytes of results may wait for their turn before no further item begins.
	heldLimit = 64 << 20
)

// A promptBatch is one batch of prompts on its way. Items run in goroutines of their own; all but
// what stands behind mu is of the request's goroutine alone, which also writes: while it cannot,
// because the client does not read, no item begins.
type promptBatch struct {
	*request // of the batch itself
	ctx      context.Context
	inner    *http.Request // what items see of it: its context ends with the batch
	prompts  *wire.Prompts

	next    int // item to begin
	running int
	done    chan result // holds as many as may run, so that no item waits here
	written int         // results
	held    map[int]result
	bytes   int // of held

	mu    sync.Mutex      // guards what follows
	given map[string]bool // models that nobody could answer for so long that others need not wait
}

// A result is the line of an item that is done.
type result struct {
	index  int
	line   []byte
	failed bool
}

// batch answers a batch of prompts: each item goes the whole way of a request of its own, as one
// of class batch, and its result is a line, written when it is there. The body is counted once,
// until the batch ends: what is on its way are parts of it. The batch is one of `streams`, however
// many items run.
func (q *request) batch() error {
	if !q.engine.streams.take(1, int64(q.limits.Streams)) {
		return errStreams
	}
	defer q.engine.streams.give(1)
	ordered, err := wantsOrder(q.r)
	if err != nil {
		return err
	}
	body, err := q.engine.readBody(q.w, q.r, q.limits, false)
	defer body.release()
	if err != nil {
		return err
	}
	prompts, err := wire.ParsePrompts(body.bytes, q.promptLimits.MaxItems)
	if err != nil {
		return err
	}
	prompts.Ordered = prompts.Ordered || ordered

	ctx, cancel := context.WithCancel(q.ctx())
	var items sync.WaitGroup
	defer items.Wait() // they hold parts of the body
	defer cancel()
	b := &promptBatch{
		request: q, ctx: ctx, inner: q.r.WithContext(ctx), prompts: prompts,
		done: make(chan result, min(q.promptLimits.Concurrency, len(prompts.Items))), held: make(map[int]result), given: make(map[string]bool),
	}
	b.run(&items)
	return nil
}

// wantsOrder reads the query.
func wantsOrder(r *http.Request) (bool, error) {
	said := r.URL.Query().Get("ordered")
	if said == "" {
		return false, nil
	}
	ordered, err := strconv.ParseBool(said)
	if err != nil {
		return false, &wire.BadRequest{Status: http.StatusBadRequest, Reason: wire.ReasonWrongType, Message: "ordered must be true or false"}
	}
	return ordered, nil
}

// run begins items and writes results until all are written or the client has left.
func (b *promptBatch) run(items *sync.WaitGroup) {
	b.w.Header().Set("Content-Type", "application/x-ndjson")
	b.answers()
	b.head(http.StatusOK)
	control := http.NewResponseController(b.w)
	// It is to know soon that the batch was taken, but not at once: a proxy between that still looks
	// whether the body has ended gives up if the answer begins meanwhile, as Go's does.
	taken := time.After(promptsTaken)
	gone := false
	for !gone && b.written < len(b.prompts.Items) {
		for b.begins() {
			index := b.next
			b.next++
			b.running++
			items.Go(func() { b.done <- b.answer(index) }) // ends with its answer, or b.ctx
		}
		select {
		case <-b.ctx.Done():
			gone = true
		case <-taken:
			gone = control.Flush() != nil
		case r := <-b.done:
			b.running--
			gone = b.write(r) != nil
			if len(b.done) == 0 && !gone { // many that are there at once are flushed at once
				gone = control.Flush() != nil
			}
		}
	}
	if gone {
		b.record.Outcome = ClientCanceled
	}
}

// begins tells whether a further item may begin. The one whose turn it is to be written has begun
// before any that is held for it, so nothing waits for ever.
func (b *promptBatch) begins() bool {
	most := b.promptLimits.Concurrency
	return b.next < len(b.prompts.Items) && b.running < most && b.next < b.written+promptWindow*most && b.bytes < heldLimit
}

// write writes a result, or holds it until its turn has come.
func (b *promptBatch) write(r result) error {
	if !b.prompts.Ordered {
		return b.emit(r)
	}
	b.held[r.index] = r
	b.bytes += len(r.line)
	for {
		r, ok := b.held[b.written]
		if !ok {
			return nil
		}
		delete(b.held, r.index)
		b.bytes -= len(r.line)
		if err := b.emit(r); err != nil {
			return err
		}
	}
}

func (b *promptBatch) emit(r result) error {
	b.written++
	b.record.Items++
	if r.failed {
		b.record.ItemsFailed++
	}
	_, err := b.w.Write(r.line)
	return err
}
