package assistant

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	lineLimit   = 1 << 20   // bytes of a record
	answerLimit = 256 << 10 // bytes of an answer's text
)

// A follower reads one answer as it comes, a record a line.
type follower struct {
	piece func(string) error
	bytes int // of text that came
	cut   bool
}

// follow reads to the record that says it is done. Everything else is no whole answer, also a clean
// end without it: that is how a node ends when its runner has died.
func (f *follower) follow(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, lineLimit)
	for lines.Scan() {
		var record struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
			Done       bool            `json:"done"`
			DoneReason string          `json:"done_reason"`
			Error      json.RawMessage `json:"error"`
		}
		if len(lines.Bytes()) == 0 {
			continue
		}
		if json.Unmarshal(lines.Bytes(), &record) != nil {
			return f.broken(errors.New("a line of the answer is no record"))
		}
		if e := string(record.Error); e != "" && e != "null" {
			return f.broken(errors.New("the gateway ended it with an error"))
		}
		if text := record.Message.Content; text != "" {
			if f.bytes += len(text); f.bytes > answerLimit {
				return f.broken(fmt.Errorf("it has more than %d bytes", answerLimit))
			}
			if err := f.piece(text); err != nil {
				return err
			}
		}
		if record.Done {
			f.cut = record.DoneReason == "length"
			if f.bytes == 0 {
				return &Error{Kind: ErrRefused, cause: errors.New("the answer is empty")}
			}
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return f.broken(err)
	}
	return f.broken(io.ErrUnexpectedEOF)
}

// broken is the error of an answer that had begun, or had not.
func (f *follower) broken(cause error) error {
	if f.bytes == 0 {
		return &Error{Kind: ErrUnavailable, cause: cause}
	}
	return &Error{Kind: ErrTruncated, cause: cause}
}
