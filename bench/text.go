package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// model is the only one that the nodes have.
const model = "bench:latest"

// A prompt says all about the answer to it, so that the client can check every word and
// no two answers of a run are alike.
type prompt struct {
	words int    // records with text; the final record has none
	rate  int    // records a second; 0 is all at once
	pause int    // seconds between the first record and the second
	nonce uint64 // never twice in a run, but for those of firstKnown on

	deterministic bool // asked with temperature 0, so that a cache may keep the answer; not in the text
}

// firstKnown is the nonce of the first prompt that may be asked again and again. Prompts that
// are asked once are numbered from 0 and never come so far.
const firstKnown = 1 << 63

var errPrompt = errors.New("not a prompt of the bench")

// appendTo writes the prompt in plain words that need no escapes in JSON.
func (p prompt) appendTo(b []byte) []byte {
	b = strconv.AppendInt(append(b, "Say words: "...), int64(p.words), 10)
	b = strconv.AppendInt(append(b, " at a rate of "...), int64(p.rate), 10)
	b = strconv.AppendInt(append(b, " with a pause of "...), int64(p.pause), 10)
	return strconv.AppendUint(append(b, " and number "...), p.nonce, 10)
}

// parsePrompt reads what appendTo wrote.
func parsePrompt(text []byte) (p prompt, err error) {
	var numbers [4]uint64
	for i, before := range []string{"Say words: ", " at a rate of ", " with a pause of ", " and number "} {
		rest, ok := bytes.CutPrefix(text, []byte(before))
		n := 0
		for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
			numbers[i] = numbers[i]*10 + uint64(rest[n]-'0')
			n++
		}
		if !ok || n == 0 {
			return prompt{}, errPrompt
		}
		text = rest[n:]
	}
	if len(text) > 0 {
		return prompt{}, errPrompt
	}
	return prompt{words: int(numbers[0]), rate: int(numbers[1]), pause: int(numbers[2]), nonce: numbers[3]}, nil
}

// wordLength is that of every word, the space before it included: about a token.
const wordLength = 6

// appendWord writes word i of the answer.
func (p prompt) appendWord(b []byte, i int) []byte {
	x := scatter(p.nonce*0x9e3779b97f4a7c15 + uint64(i)*0xd1342543de82ef95)
	b = append(b, ' ')
	for range wordLength - 1 {
		b = append(b, 'a'+byte(x&15))
		x >>= 4
	}
	return b
}

// scatter is the end of splitmix64: neighbours share nothing, so a word of another answer or place
// shows.
func scatter(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// appendRequest writes the body of a chat with the prompt.
func (p prompt) appendRequest(b []byte, stream bool) []byte {
	b = append(b, `{"model":"`+model+`","messages":[{"role":"user","content":"`...)
	b = p.appendTo(b)
	b = append(b, `"}],"stream":`...)
	b = strconv.AppendBool(b, stream)
	if p.deterministic {
		b = append(b, `,"options":{"temperature":0}`...)
	}
	return append(b, '}')
}

// parseRequest reads the body of a chat, whoever has written it anew on the way.
func parseRequest(body []byte) (p prompt, stream bool, err error) {
	text, ok := valueOf(body, `"content":`)
	if !ok || len(text) < 2 || text[0] != '"' {
		return prompt{}, false, errPrompt
	}
	end := bytes.IndexByte(text[1:], '"')
	if end < 0 {
		return prompt{}, false, errPrompt
	}
	if p, err = parsePrompt(text[1 : 1+end]); err != nil {
		return prompt{}, false, err
	}
	flag, ok := valueOf(body, `"stream":`)
	return p, !ok || !bytes.HasPrefix(flag, []byte("false")), nil
}

// valueOf is what follows a key, from its first character to the end of the text.
func valueOf(text []byte, key string) ([]byte, bool) {
	i := bytes.Index(text, []byte(key))
	if i < 0 {
		return nil, false
	}
	return bytes.TrimLeft(text[i+len(key):], " "), true
}

var contentKey = []byte(`"content":"`)

// checkContent tells whether a record says the words from first up to last.
func (p prompt) checkContent(record []byte, first, last int) error {
	i := bytes.Index(record, contentKey)
	if i < 0 {
		return fmt.Errorf("no content in %.200q", record)
	}
	rest := record[i+len(contentKey):]
	var room [wordLength]byte
	for k := first; k < last; k++ {
		word := p.appendWord(room[:0], k)
		if !bytes.HasPrefix(rest, word) {
			return fmt.Errorf("word %d of %d is not %q in %.200q", k, p.words, word, record)
		}
		rest = rest[wordLength:]
	}
	if len(rest) == 0 || rest[0] != '"' {
		return fmt.Errorf("more words than %d..%d of %d in %.200q", first, last, p.words, record)
	}
	return nil
}
