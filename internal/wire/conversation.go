package wire

import (
	"hash/maphash"
	"unicode/utf8"
)

// A Turn is one step of a conversation, in the order in which a node evaluates it.
type Turn struct {
	// Hash is of this step and all before it: of two requests of one route, those that begin
	// with the same steps have the same hashes for them. It means nothing outside this process.
	Hash uint64
	// Bytes of text there are up to the end of this step, as a node reads them: what its tokens
	// can be estimated by. An image counts as mediaBytes, a token of a native context as
	// tokenBytes.
	Bytes int
}

const (
	// maxTurns is how many steps a conversation has at most; what comes later is in the last.
	// Half a thousand messages fill the context of most models, and cost 8 KiB.
	maxTurns = 512
	// blockBytes is where a prompt, which has no messages, is cut into steps.
	blockBytes = 1 << 10
	// blockTokens is the same of a native context. An answer's context begins with the one
	// that was sent, so the next request shares its whole blocks.
	blockTokens = 256
	// tokenBytes is the usual length of a token.
	tokenBytes = 4
	// mediaBytes is what an image or a sound counts for, whatever its size: vision models make
	// some hundreds of tokens of one.
	mediaBytes = 768 * tokenBytes
	// orderLevels is how deep the order of keys is looked through below a field of the request:
	// a message, its parts, a part, its source or what a tool gave, and the parts of that. What
	// is deeper counts as it is spelt, so that the work is linear in the body.
	orderLevels = 7
	// orderKeys is how many keys of a free object are put in order.
	orderKeys = 16
)

// turnSeed is drawn anew in each process. Who does not know it cannot make two conversations
// whose hashes collide, and so cannot have a stranger's request sent where only its own
// conversation lies; 64 bits are enough for what is a hint to a scheduler and no key of a cache.
var turnSeed = maphash.MakeSeed()

// Conversation is what a request has a node evaluate: first all that stands before the
// messages (system text, tools, how to think), then a message a step. A prompt is cut into
// blocks, and so is a native context. It is nil where no text is evaluated: embeddings, show,
// load and unload.
//
// The way the JSON is spelt makes no difference: white space, escapes, the order of a message's
// keys, a text as a string or as a part. Fields that a message does not have for a node do not
// count, nor does cache_control anywhere, which clients move from message to message. Inside
// tools and the arguments of calls the order of keys counts, as it does for a node.
//
// It is worked out anew by each call, for about half of what it costs to parse the body, and
// keeps no text.
func (r *Request) Conversation() []Turn {
	form := forms[r.Route.Path]
	if r.source == nil || form.turns == nil || r.Task == Load || r.Task == Unload {
		return nil
	}
	c := &teller{
		reading: reading{body: r.source.body, clean: r.source.clean},
		source:  r.source, turns: make([]Turn, 0, 16),
	}
	c.hash.SetSeed(turnSeed)
	for i, name := range form.head {
		if span := c.source.span(name); !c.isBlank(span) {
			c.addKey(i)
			c.at = span.from
			c.tellParts(c.schema(name), orderLevels)
		}
	}
	c.endTurn()
	form.turns(c)
	return c.turns
}

// messageTurns makes each element of a list of messages, or the text that stands for one, a
// step.
func messageTurns(name string) func(*teller) {
	return func(c *teller) {
		span := c.source.span(name)
		if c.isBlank(span) {
			return
		}
		c.at = span.from
		s := c.schema(name)
		if c.body[c.at] != '[' {
			c.tell(s, orderLevels)
			c.endTurn()
			return
		}
		for ok := c.enter(']'); ok; ok = c.next(']') {
			c.tell(s.elem, orderLevels)
			c.endTurn()
		}
	}
}

// promptTurns cuts a native context and a prompt into steps. A suffix comes behind the prompt
// in the templates that have one, which a node takes if there is one.
func promptTurns(c *teller) {
	suffix := c.source.raw("suffix")
	if hasText(suffix) {
		c.addKey(0)
	}
	if context := c.source.raw("context"); context != nil {
		n := 0
		for number := range elements(context) {
			c.add(number, itemNumber)
			c.bytes += tokenBytes
			if n++; n%blockTokens == 0 {
				c.endTurn()
			}
		}
		if n%blockTokens != 0 {
			c.endTurn()
		}
	}
	if prompt := c.source.raw("prompt"); hasText(prompt) {
		c.addBlocks(prompt[1 : len(prompt)-1])
	}
	if hasText(suffix) {
		c.addText(suffix[1 : len(suffix)-1])
		c.endTurn()
	}
}

// A teller walks over the parts of a judged body and hashes what they mean.
//
// What is hashed is one growing sequence of items, each its bytes, their number and its kind.
// Read from the end it can be taken apart in one way only, so different sequences differ.
type teller struct {
	reading
	source *reading // where the fields of the request are; others read it, too

	hash    maphash.Hash
	bytes   int
	turns   []Turn
	spans   []span   // of the fields of the objects that are being told, innermost last
	members []member // the same of free objects
}

// The kinds of items.
const (
	itemText byte = iota
	itemNumber
	itemKey
	itemOpen
	itemClose
	itemTurn
)

// add adds an item of so few bytes that they are written at once.
func (c *teller) add(item []byte, kind byte) {
	c.hash.Write(item)
	c.end(len(item), kind)
}

// end ends an item whose n bytes have been written.
func (c *teller) end(n int, kind byte) {
	c.hash.Write([]byte{
		byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), byte(n >> 32), byte(n >> 40), byte(n >> 48), byte(n >> 56), kind,
	})
}

// endTurn ends a step.
func (c *teller) endTurn() {
	c.end(0, itemTurn)
	turn := Turn{Hash: c.hash.Sum64(), Bytes: c.bytes}
	if len(c.turns) == maxTurns {
		c.turns[maxTurns-1] = turn
		return
	}
	c.turns = append(c.turns, turn)
}

// addKey adds the key of a field by its place.
func (c *teller) addKey(i int) { c.end(i, itemKey) }

// addScalar adds a number or a word of JSON.
func (c *teller) addScalar(text []byte) {
	c.add(text, itemNumber)
	c.bytes += len(text)
}

// addText adds what a node reads from the inside of a string.
func (c *teller) addText(s []byte) {
	n := 0
	c.read(s, func(part []byte) {
		c.hash.Write(part)
		n += len(part)
	})
	c.end(n, itemText)
	c.bytes += n
}

// addMedia adds the inside of a string that is an image or a sound.
func (c *teller) addMedia(s []byte) {
	before := c.bytes
	c.addText(s)
	c.bytes = before + mediaBytes
}

// addBlocks adds a text as steps of so many bytes.
func (c *teller) addBlocks(s []byte) {
	n := 0
	end := func() {
		c.end(n, itemText)
		c.bytes += n
		c.endTurn()
		n = 0
	}
	c.read(s, func(part []byte) {
		for n+len(part) >= blockBytes {
			rest := blockBytes - n
			c.hash.Write(part[:rest])
			part, n = part[rest:], blockBytes
			end()
		}
		c.hash.Write(part)
		n += len(part)
	})
	if n > 0 {
		end()
	}
}

// gathered is how many bytes are gathered before they are hashed: a call costs as much.
const gathered = 256

// read gives the inside of a string as a node reads it, in parts that are good until the next.
func (r *reading) read(s []byte, part func([]byte)) {
	r.text = r.text[:0]
	for len(s) > 0 {
		next := s
		if !r.clean && len(s) > mostRead {
			next = s[:mostRead+1] // or each part of a long text would be a look through all the rest
		}
		plain := indexEscape(next)
		switch {
		case plain >= gathered && r.clean:
			part(r.text)
			r.text = r.text[:0]
			part(s[:plain])
		case plain > 0 && r.clean:
			r.text = append(r.text, s[:plain]...)
		case plain > 0:
			plain = wholeRunes(s[:plain])
			r.text = appendText(r.text, s[:plain])
		default:
			_, plain = escaped(s)
			r.text = appendText(r.text, s[:plain])
		}
		s = s[plain:]
		if len(r.text) >= gathered {
			part(r.text)
			r.text = r.text[:0]
		}
	}
	part(r.text)
}

// mostRead is how many bytes are read at once where something may have to be replaced.
const mostRead = 4 << 10

// wholeRunes is how much of a text to read at once, so that little is copied: no rune is cut.
func wholeRunes(s []byte) int {
	if len(s) <= mostRead {
		return len(s)
	}
	for at := mostRead; at > mostRead-utf8.UTFMax; at-- {
		if utf8.RuneStart(s[at]) {
			return at
		}
	}
	return mostRead // none of these bytes is part of a rune
}
