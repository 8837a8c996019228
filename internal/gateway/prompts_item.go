package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

const (
	// itemPatience is how long an item that nobody can answer now is asked again. A node that was
	// started anew is back by then, and has loaded a large model.
	itemPatience = 10 * time.Minute
	// The wait before it is asked again, doubled each time. The longest is short enough for a node
	// that is back to have work at once, and not to hold up the end of the process.
	itemPause, itemLongestPause = 500 * time.Millisecond, 5 * time.Second
	// itemLimit bounds one item's answer, in bytes.
	itemLimit = 64 << 20
)

// answer has an item answered and gives its line.
func (b *promptBatch) answer(index int) result {
	prompt, err := wire.ParsePrompt(b.prompts.Items[index])
	w := &itemWriter{header: make(http.Header)}
	q := &request{
		Settings: b.Settings, site: b.site, siteName: b.siteName, user: b.user, tenant: b.tenant,
		w: w, r: b.inner, route: prompt.Route, item: true, began: time.Now(),
		record: &Record{RequestID: b.record.RequestID + "-" + strconv.Itoa(index), Endpoint: endpoint(prompt.Route)},
	}
	b.serveItem(q, prompt, err)
	return result{index, w.line(index, prompt.CustomID, q.record), q.record.Outcome != OK}
}

// serveItem is Serve of an item. The batch's key and its Via have been looked at.
func (b *promptBatch) serveItem(q *request, prompt wire.Prompt, err error) {
	q.engine.observer.Began(q.record.Endpoint)
	defer func() {
		if p := recover(); p != nil && q.recovered(p) != nil {
			q.record.Outcome = InternalError
		}
		q.settle()
		q.engine.observer.Ended(q.record)
	}()
	if err == nil {
		err = b.ask(q, prompt.Body)
	}
	if err != nil {
		q.refuse(err)
	}
}

// ask has an item answered, and asks again where nobody can answer it now: its client is in no
// hurry, and a batch should not be lost to a queue that is full or a node that is started anew.
// Once a model had no answer for itemPatience, other items do not wait for it either, until it
// answers one.
func (b *promptBatch) ask(q *request, body []byte) error {
	var paused time.Duration
	faulted := false
	for pause := itemPause; ; pause = min(2*pause, itemLongestPause) {
		err := q.reply(body)
		switch {
		case err == nil:
			b.giveUp(q.itemModel, false)
			return nil
		case errors.Is(err, schedule.ErrStopping), b.gaveUp(q.itemModel):
			return err
		case statusOf(err) != http.StatusServiceUnavailable:
			// A node that dies while it loads takes along all who wait for that. Asked again once: the
			// item itself may be what it died of.
			outcome := outcomeOf(err, statusOf(err))
			if faulted || outcome != UpstreamError && outcome != Timeout {
				return err
			}
			faulted = true
		case paused >= itemPatience:
			b.giveUp(q.itemModel, true)
			return err
		}
		select {
		case <-time.After(pause):
			paused += pause
		case <-b.ctx.Done():
			return err
		}
	}
}

func (b *promptBatch) gaveUp(model string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.given[model]
}

func (b *promptBatch) giveUp(model string, up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if up {
		b.given[model] = true
	} else {
		delete(b.given, model)
	}
}

// An itemWriter takes the answer to one item.
type itemWriter struct {
	header http.Header
	status int
	body   []byte
	over   bool // the answer is more than itemLimit
}

func (w *itemWriter) Header() http.Header    { return w.header }
func (w *itemWriter) WriteHeader(status int) { w.status = status }

func (w *itemWriter) Write(p []byte) (int, error) {
	if w.over = w.over || len(w.body)+len(p) > itemLimit; !w.over {
		w.body = append(w.body, p...)
	}
	return len(p), nil
}

// itemHeaders are those headers of an answer that a result tells, too.
var itemHeaders = [...]string{"Cache-Status", "Age", changedHeader, "X-Ollama-Route", "X-Ollama-Usage"}

// line spells a result as OpenAI's batches do, and says an error in one word of Outcomes.
func (w *itemWriter) line(index int, customID string, rec *Record) []byte {
	if w.over || rec.Outcome != OK && w.status < http.StatusBadRequest {
		message := "internal error of the gateway"
		if w.over {
			message = "the answer is too large for a batch; ask for it by itself"
		}
		w.status, rec.Outcome = http.StatusInternalServerError, InternalError
		_, w.body = wire.ErrorBody(wire.Ollama, w.status, message, true)
	}
	line := bytes.NewBuffer(make([]byte, 0, len(w.body)+256))
	line.WriteString(`{"index":` + strconv.Itoa(index))
	if customID != "" {
		line.WriteString(`,"custom_id":`)
		line.Write(quoted(customID))
	}
	line.WriteString(`,"response":{"status_code":` + strconv.Itoa(w.status) + `,"request_id":"` + rec.RequestID + `"`)
	separator := `,"headers":{`
	for _, name := range itemHeaders {
		if value := w.header.Get(name); value != "" {
			line.WriteString(separator + `"` + name + `":`)
			line.Write(quoted(value))
			separator = ","
		}
	}
	if separator == "," {
		line.WriteByte('}')
	}
	line.WriteString(`,"body":`)
	if at := line.Len(); json.Compact(line, w.body) != nil { // a node's page that is no JSON
		line.Truncate(at)
		line.Write(quoted(string(w.body)))
	}
	line.WriteString(`},"error":`)
	if rec.Outcome == OK {
		line.WriteString("null}\n")
		return line.Bytes()
	}
	message := wire.ErrorMessage(w.body)
	if message == "" {
		message = http.StatusText(w.status)
	}
	line.WriteString(`{"code":"` + string(rec.Outcome) + `","message":`)
	line.Write(quoted(message))
	line.WriteString("}}\n")
	return line.Bytes()
}

// quoted is a text as JSON. A text can always be encoded.
func quoted(s string) []byte {
	b, _ := json.Marshal(s)
	return b
}
