package wire

import (
	"bytes"
	"iter"
)

// SaidIn tells of the frames of a complete answer what SaidBy tells of the single one that they
// fold to, mostly without folding them. The errors are those of Fold.
func SaidIn(route Route, frames iter.Seq[[]byte]) (Said, error) {
	call := callWord
	if route.Dialect == Anthropic {
		call = useWord
	}
	var has struct{ text, calls bool } // in one piece, as the loop's body is a function
	for frame := range frames {
		has.text = has.text || opensText(frame)
		// A native one is in a list, and few frames have one.
		has.calls = has.calls || (route.Dialect != Ollama || bytes.IndexByte(frame, '[') >= 0) && bytes.Contains(frame, call)
	}
	if has.text && !has.calls {
		return Said{Text: true}, nil
	}
	_, single, err := Fold(route.Dialect, route.Operation, frames)
	if err != nil {
		return Said{}, err
	}
	return SaidBy(route, single), nil
}

// callWord and useWord are in each frame that calls a tool.
var (
	callWord = []byte("_call") // tool_calls, function_call, web_search_call
	useWord  = []byte("tool_use")
)

// textKeys are the fields that hold text in the frames of all dialects, as a node writes them. They
// cannot stand inside of a text: its quotes are escaped.
var textKeys = [...][]byte{
	[]byte(`"content":"`), []byte(`"response":"`), []byte(`"text":"`), []byte(`"delta":"`), []byte(`"thinking":"`), []byte(`"reasoning":"`),
}

// opensText tells whether a field of a frame holds text that is not empty. If it is wrong, then
// because a node spells its frames otherwise, and by saying no.
func opensText(frame []byte) bool {
	for _, key := range textKeys {
		for rest := frame; ; {
			i := bytes.Index(rest, key)
			if i < 0 {
				break
			}
			if rest = rest[i+len(key):]; len(rest) > 0 && rest[0] != '"' {
				return true
			}
		}
	}
	return false
}
