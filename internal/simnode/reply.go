package simnode

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Content types, exactly: the charset tells who wrote an answer on a real server, and clients do see it.
const (
	typeJSON      = "application/json; charset=utf-8"
	typeBareJSON  = "application/json"
	typeNDJSON    = "application/x-ndjson"
	typeSSE       = "text/event-stream"
	typePlain     = "text/plain"
	typePlainUTF8 = "text/plain; charset=utf-8"
)

// now is a moment as answers tell it: in UTC, without a monotonic reading.
func now() time.Time { return time.Now().UTC().Round(0) }

// send writes a whole answer. The length of a short one is added by net/http, a long one goes out chunked: the same
// boundary of 2048 bytes as on a real server, which is net/http as well.
func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error here means that the client is gone
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		send(w, http.StatusInternalServerError, typeJSON, errorBody(err.Error()))
		return
	}
	send(w, status, typeJSON, body)
}

func errorBody(text string) []byte {
	body, err := json.Marshal(struct {
		Error string `json:"error"`
	}{text})
	if err != nil { // a string always marshals
		return nil
	}
	return body
}

// sendError writes an error of the native dialect.
func sendError(w http.ResponseWriter, status int, text string) {
	send(w, status, typeJSON, errorBody(text))
}

// A statusError is an error that knows the status it is answered with.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// flush pushes what has been written so far to the client, and with it the headers.
func flush(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush() // a writer that cannot flush has nothing to push
}

// decodeBody reads the first JSON value of the body into v and leaves what follows unread, as the real server does.
func decodeBody(r *http.Request, v any) error {
	if r.Body == nil {
		return io.EOF
	}
	return json.NewDecoder(r.Body).Decode(v)
}

// bind is decodeBody for the native routes: it answers the request itself when the body cannot be read.
func bind(w http.ResponseWriter, r *http.Request, v any) bool {
	switch err := decodeBody(r, v); err {
	case nil:
		return true
	case io.EOF:
		sendError(w, http.StatusBadRequest, "missing request body")
	default:
		sendError(w, http.StatusBadRequest, err.Error())
	}
	return false
}
