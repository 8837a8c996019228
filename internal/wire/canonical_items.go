package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

// The tags of the items of a canonical form. Behind a text, a key and a number as it is spelt
// stand its length and its bytes, behind a decimal what appendDecimal says, behind a digest
// its 32 bytes, behind the others nothing.
const (
	tagObject  byte = '{' // keys, each with its value, and an end
	tagArray   byte = '[' // values, and an end
	tagEnd     byte = '.'
	tagKey     byte = 'k'
	tagText    byte = 's'
	tagDecimal byte = 'd'
	tagSpelt   byte = '#' // a number
	tagTrue    byte = 't'
	tagFalse   byte = 'f'
	tagNull    byte = 'n'
	tagBase64  byte = 'b' // the digest of what base64 is for
	tagDigest  byte = 'h' // the digest of a text
)

// isMedia tells whether the parts of a content have an image, a sound or a file, or its address,
// under a name. Such a text is told by its digest whatever it holds: how long it is and how it
// begins depends on how it is spelt.
func isMedia(name string) bool {
	switch name {
	case "data", "url", "image_url", "file_data":
		return true
	}
	return false
}

// A manner is how a value without schema is told.
type manner struct {
	decimals bool // numbers by their value
	media    bool // texts for which isMedia is true by their digests
}

// tokens tells the value at c.at token by token, and steps behind it. It does not recurse: a
// client chooses the depth.
func (c *canon) tokens(how manner) {
	media := false // the last token was a key for which isMedia is true
	for depth := 0; ; {
		b := c.body[c.at]
		if depth > 0 && b == '"' {
			text := c.skipString()
			c.space()
			if c.body[c.at] == ':' {
				c.putText(tagKey, text)
				media = how.media && c.isMediaKey(text)
				continue
			}
			if media {
				c.putDigest(text)
			} else {
				c.putText(tagText, text)
			}
			media = false
			continue
		}
		switch b {
		case ' ', '\t', '\n', '\r', ',', ':':
			c.at++
			continue
		case '[':
			depth++
			c.out = append(c.out, tagArray)
			c.at++
		case '{':
			depth++
			c.out = append(c.out, tagObject)
			c.at++
		case ']', '}':
			depth--
			c.out = append(c.out, tagEnd)
			c.at++
		case '"':
			c.putText(tagText, c.skipString())
		default:
			c.putScalar(how.decimals)
		}
		media = false
		if depth == 0 {
			return
		}
	}
}

// isMediaKey is isMedia for the inside of a key.
func (c *canon) isMediaKey(key []byte) bool {
	const longest = 6 * len("image_url") // all of it escaped
	if len(key) > longest {
		return false
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		c.text = appendText(c.text[:0], key)
		key = c.text
	}
	return isMedia(string(key))
}

// putScalar tells the number or word at c.at.
func (c *canon) putScalar(decimals bool) {
	from := c.at
	c.skipScalar()
	switch b := c.body[from]; {
	case b == tagTrue, b == tagFalse, b == tagNull:
		c.out = append(c.out, b) // they begin with their tags
	case decimals:
		c.out = appendDecimal(c.out, c.body[from:c.at])
	default:
		c.putBytes(tagSpelt, c.body[from:c.at])
	}
}

// putBytes tells what needs no decoding.
func (c *canon) putBytes(tag byte, text []byte) {
	c.out = binary.AppendUvarint(append(c.out, tag), uint64(len(text)))
	c.out = append(c.out, text...)
}

// putPlain is putBytes for a string.
func (c *canon) putPlain(tag byte, text string) {
	c.out = binary.AppendUvarint(append(c.out, tag), uint64(len(text)))
	c.out = append(c.out, text...)
}

// putText tells what a node reads from the inside of a string.
func (c *canon) putText(tag byte, s []byte) {
	escape := bytes.IndexByte(s, '\\')
	if escape < 0 && (c.clean || utf8.Valid(s)) {
		c.putBytes(tag, s)
		return
	}
	// The length comes first and is known last. Nearly always it takes as many bytes as that of
	// the spelling; else the text is moved.
	c.out = binary.AppendUvarint(append(slices.Grow(c.out, len(s)), tag), uint64(len(s)))
	from := len(c.out)
	c.appendRead(s, escape)
	text := len(c.out) - from
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(text))
	reserved := uvarintLen(len(s))
	if n != reserved {
		c.out = append(c.out, length[:max(n-reserved, 0)]...)
		copy(c.out[from-reserved+n:], c.out[from:from+text])
		c.out = c.out[:from-reserved+n+text]
	}
	copy(c.out[from-reserved:], length[:n])
}

// appendRead appends a text as a node reads it. escape is where its first escape is.
func (c *canon) appendRead(s []byte, escape int) {
	if !c.clean {
		c.out = appendText(c.out, s)
		return
	}
	for ; escape >= 0; escape = bytes.IndexByte(s, '\\') {
		c.out = append(c.out, s[:escape]...)
		r, size := escaped(s[escape:])
		c.out = utf8.AppendRune(c.out, r)
		s = s[escape+size:]
	}
	c.out = append(c.out, s...)
}

// uvarintLen is how many bytes binary.AppendUvarint writes for n.
func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// maxExponent is how many digits of an exponent are counted with. A longer one fits no
// arithmetic, and stands in a number that is zero for a node or beyond all range.
const maxExponent = 17

// appendDecimal tells a JSON number by its value: tag, sign, the exponent of ten as a varint,
// the number of digits as a uvarint, and the digits, without zeros at either end. It has no
// digits for zero, which keeps its sign, as a float does. A number whose exponent cannot be
// counted with is told as it is spelt.
func appendDecimal(dst, number []byte) []byte {
	sign, rest := byte('+'), number
	if rest[0] == '-' {
		sign, rest = '-', rest[1:]
	}
	digits, exponent := rest, []byte(nil)
	if i := bytes.IndexAny(rest, "eE"); i >= 0 {
		digits, exponent = rest[:i], rest[i+1:]
	}
	whole, fraction, _ := bytes.Cut(digits, []byte{'.'})

	fraction = bytes.TrimRight(fraction, "0")
	whole = bytes.TrimLeft(whole, "0")
	scale := int64(-len(fraction))
	if len(fraction) == 0 {
		trimmed := bytes.TrimRight(whole, "0")
		scale = int64(len(whole) - len(trimmed))
		whole = trimmed
	}
	if len(whole) == 0 {
		fraction = bytes.TrimLeft(fraction, "0")
	}
	if len(whole)+len(fraction) == 0 {
		return append(dst, tagDecimal, sign, 0, 0)
	}

	power, ok := readExponent(exponent)
	if !ok {
		dst = binary.AppendUvarint(append(dst, tagSpelt), uint64(len(number)))
		return append(dst, number...)
	}
	dst = binary.AppendVarint(append(dst, tagDecimal, sign), scale+power)
	dst = binary.AppendUvarint(dst, uint64(len(whole)+len(fraction)))
	return append(append(dst, whole...), fraction...)
}

// readExponent reads what stands behind the e of a number. Nothing is zero.
func readExponent(text []byte) (power int64, ok bool) {
	negative := len(text) > 0 && text[0] == '-'
	text = bytes.TrimLeft(bytes.TrimLeft(text, "+-"), "0")
	if len(text) > maxExponent {
		return 0, false
	}
	for _, c := range text {
		power = 10*power + int64(c-'0')
	}
	if negative {
		power = -power
	}
	return power, true
}
