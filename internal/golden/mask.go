package golden

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The registry's name was replaced in the recordings.
const (
	realHost   = "registry.ollama.ai"
	maskedHost = "registry.example"
)

// anyText is the key under which every string is a model's.
const anyText = "\x00text"

// What a model made: only whether there is some is compared.
var textKeys = []string{
	anyText, "response", "thinking", "content", "reasoning", "text", "token", "delta", "encrypted_content",
}

// Counts of tokens and moments in seconds, and the number of an event behind as many as the answer is long.
var countKeys = []string{
	"prompt_eval_count", "eval_count", "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
	"created", "created_at", "completed_at", "context", "bytes", "sequence_number",
}

var timeKeys = []string{"created_at", "modified_at", "expires_at", "completed_at"}

var reasonKeys = []string{"done_reason", "finish_reason", "stop_reason"}

// An id may have another one in it, and the number of a call at its end.
var randomID = regexp.MustCompile(`^(chatcmpl-|cmpl-|rs_resp_|fc_resp_|resp_|msg_|rs_|fc_|call_|req_)[0-9a-z]+(_[0-9])?$`)

func isVector(key string) bool { return key == "embedding" || key == "embeddings" }

// isOpenEnded reports whether a list is as long as the answer. The same key "content" is also a message's.
func isOpenEnded(key, path string) bool {
	return key == "context" || key == "bytes" || key == "logprobs" || strings.HasSuffix(path, ".logprobs.content")
}

// mask returns what is compared of a leaf.
func mask(key string, v *value, limited bool) string {
	switch v.kind {
	case number:
		return maskNumber(key, v.text)
	case text:
		return maskText(key, v.text, limited)
	}
	if key == anyText && v.text != "null" {
		return "a boolean"
	}
	return v.text
}

func maskNumber(key, s string) string {
	switch {
	case slices.Contains(countKeys, key), strings.HasSuffix(key, "_duration"):
		if _, err := strconv.ParseInt(s, 10, 64); err != nil {
			return "not an integer: " + s
		}
		return "an integer"
	case key == "logprob", key == anyText:
		return "a number"
	}
	return s
}

func maskText(key, s string, limited bool) string {
	switch {
	case slices.Contains(textKeys, key):
		if s == "" {
			return "no text"
		}
		return "text"
	case key == "arguments", key == "partial_json":
		if json.Valid([]byte(s)) {
			return "JSON in a string"
		}
		return "text"
	case isVector(key):
		return "a packed vector"
	case slices.Contains(timeKeys, key):
		return maskTime(s)
	case slices.Contains(reasonKeys, key) && !limited:
		switch s {
		case "stop", "length":
			return "stop or length"
		case "end_turn", "max_tokens":
			return "end_turn or max_tokens"
		}
	case strings.HasSuffix(key, "id"):
		if m := randomID.FindStringSubmatch(s); m != nil {
			return m[1] + m[2]
		}
	case key == "parameters":
		s = sortLines(s, "")
	case key == "modelfile":
		s = sortLines(s, "PARAMETER ")
	}
	return strconv.Quote(strings.ReplaceAll(s, realHost, maskedHost))
}

// maskTime tells only a time that stands for ever, some three hundred years from now, from any other.
func maskTime(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	switch {
	case err != nil:
		return "not a time: " + s
	case t.Year() > 2200:
		return "a time that never comes"
	}
	return "a time"
}

// sortLines sorts the lines with the prefix, which come in any order, and leaves the others where they are.
func sortLines(s, prefix string) string {
	lines := strings.Split(s, "\n")
	var at []int
	var picked []string
	for i, l := range lines {
		if strings.HasPrefix(l, prefix) {
			at, picked = append(at, i), append(picked, l)
		}
	}
	slices.Sort(picked)
	for i, l := range picked {
		lines[at[i]] = l
	}
	return strings.Join(lines, "\n")
}
