package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"
)

// A digester hashes what is too large to be told in full. It is made when it is first needed:
// most requests have no images.
type digester struct {
	hash  hash.Hash
	chars []byte // base64 that has not been decoded yet
	bytes []byte // scratch: what was decoded
}

// mediaChunk is how many characters of base64 are decoded at once: they and what they are for
// stay in the fastest cache. It is a multiple of 4.
const mediaChunk = 8 << 10

func (d *digester) reset() {
	if d.hash == nil {
		d.hash = sha256.New()
	}
	d.hash.Reset()
}

// putDigest tells the inside of a string by the digest of what a node reads.
func (c *canon) putDigest(s []byte) {
	c.digest.reset()
	c.read(s, func(part []byte) { c.digest.hash.Write(part) })
	c.out = c.digest.hash.Sum(append(c.out, tagDigest))
}

// putMedia tells the base64 or the list of octets at c.at by the digest of the bytes that a
// node decodes, and steps behind it.
func (c *canon) putMedia() {
	c.digest.reset()
	if c.digest.bytes == nil {
		c.digest.bytes = make([]byte, mediaChunk)
	}
	if c.body[c.at] == '[' {
		c.hashOctets()
	} else if s := c.skipString(); bytes.IndexByte(s, '\\') < 0 {
		c.digest.decode(s)
	} else {
		// Only an escape can be a line end, which a node passes over.
		chars := c.digest.chars[:0]
		c.read(s, func(part []byte) {
			for _, b := range part {
				if b != '\n' && b != '\r' {
					chars = append(chars, b)
				}
			}
			if whole := len(chars) &^ 3; whole >= mediaChunk {
				c.digest.decode(chars[:whole])
				chars = append(chars[:0], chars[whole:]...)
			}
		})
		c.digest.decode(chars)
		c.digest.chars = chars[:0]
	}
	c.out = c.digest.hash.Sum(append(c.out, tagBase64))
}

// decode hashes what base64 is for. It has been judged, and has no line ends.
func (d *digester) decode(chars []byte) {
	for len(chars) > 0 {
		part := chars[:min(len(chars), mediaChunk)]
		n, _ := base64.StdEncoding.Decode(d.bytes, part) // what has been judged decodes
		d.hash.Write(d.bytes[:n])
		chars = chars[len(part):]
	}
}

// hashOctets hashes the list at c.at. null leaves an octet as it is: zero.
func (c *canon) hashOctets() {
	octets := c.digest.bytes[:0]
	for ok := c.enter(']'); ok; ok = c.next(']') {
		from := c.at
		c.skipScalar()
		n, _ := strconv.ParseUint(string(c.body[from:c.at]), 10, 8)
		if octets = append(octets, byte(n)); len(octets) == mediaChunk {
			c.digest.hash.Write(octets)
			octets = octets[:0]
		}
	}
	c.digest.hash.Write(octets)
}
