package picture

import (
	"bytes"
	"encoding/binary"
)

// A jpegHead is what image/jpeg does not tell.
type jpegHead struct {
	orientation int  // of EXIF, 1 to 8; 1: upright
	progressive bool // or unknown: the decoder goes on where this reader gives up
}

// readJPEGHead goes over the segments before the first scan. What is no JPEG is upright.
func readJPEGHead(b []byte) jpegHead {
	head := jpegHead{orientation: 1, progressive: true}
	for i := 2; i+4 <= len(b); {
		if b[i] != 0xff {
			return head
		}
		marker := b[i+1]
		switch {
		case marker == 0xff: // filler
			i++
			continue
		case marker == 0x01 || marker >= 0xd0 && marker <= 0xd8: // they have no length
			i += 2
			continue
		case marker == 0xd9 || marker == 0xda: // the end, or a scan
			return head
		case marker == 0: // the decoder takes it for rubbish, without a length
			return head
		}
		length := int(binary.BigEndian.Uint16(b[i+2:]))
		if length < 2 || i+2+length > len(b) {
			return head
		}
		segment := b[i+4 : i+2+length]
		switch marker {
		case 0xc0, 0xc1:
			head.progressive = false
		case 0xe1:
			if tiff, ok := bytes.CutPrefix(segment, []byte("Exif\x00\x00")); ok {
				head.orientation = orientationOf(tiff)
			}
		}
		i += 2 + length
	}
	return head
}

// orientationOf finds tag 0x0112 in the first directory of a TIFF structure (EXIF 2.32, 4.6.4).
func orientationOf(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 1
	}
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < 12 {
			return 1
		}
		if order.Uint16(entries) == 0x0112 {
			if o := int(order.Uint16(entries[8:])); o >= 1 && o <= 8 {
				return o
			}
			return 1
		}
		entries = entries[12:]
	}
	return 1
}

// measureGIF counts the frames of a GIF and their pixels without decoding any: a few bytes may stand
// for a whole frame. What is damaged it counts up to there; image/gif reads no further either.
func measureGIF(b []byte) (frames, pixels int) {
	if len(b) < 13 {
		return 0, 0
	}
	i := 13 + colourTable(b[10])
	for i < len(b) {
		switch b[i] {
		case 0x21: // an extension
			i = skipExtension(b, i+1)
		case 0x2c: // a frame
			if i+10 > len(b) {
				return frames, pixels
			}
			frames++
			pixels += int(binary.LittleEndian.Uint16(b[i+5:])) * int(binary.LittleEndian.Uint16(b[i+7:]))
			i = skipBlocks(b, i+11+colourTable(b[i+9])) // 11: with the code size
		default:
			return frames, pixels
		}
	}
	return frames, pixels
}

// skipExtension is where the extension whose kind is at i ends for image/gif, which does not read all by the
// lengths of their blocks: what it takes for a frame has to be counted.
func skipExtension(b []byte, i int) int {
	switch {
	case i+1 >= len(b):
		return len(b)
	case b[i] == 0x01: // a text: a block of 12, whatever its length says
		return skipBlocks(b, i+14)
	case b[i] == 0xff: // of an application: its first block is not the end, even if it is empty
		return skipBlocks(b, i+2+int(b[i+1]))
	}
	return skipBlocks(b, i+1)
}

// colourTable is the length of the table that a byte of flags announces.
func colourTable(flags byte) int {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}

// skipBlocks is where a run of blocks, each with its length before it, ends.
func skipBlocks(b []byte, i int) int {
	for i < len(b) && b[i] != 0 {
		i += 1 + int(b[i])
	}
	return i + 1
}
