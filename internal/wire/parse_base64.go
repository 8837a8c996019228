package wire

// isBase64 tells whether a node can decode what stands inside a JSON string: padded standard
// base64, line ends ignored, as encoding/json decodes into bytes. It decodes nothing, since an
// image may be many megabytes.
func isBase64(s []byte) bool {
	digits, padding, ended := 0, 0, false
	for i := 0; i < len(s); {
		// The plain case first: eight digits at a time.
		for padding == 0 && i+8 <= len(s) {
			b := s[i : i+8 : i+8]
			if base64Digit[b[0]]&base64Digit[b[1]]&base64Digit[b[2]]&base64Digit[b[3]]&
				base64Digit[b[4]]&base64Digit[b[5]]&base64Digit[b[6]]&base64Digit[b[7]] == 0 {
				break
			}
			i, digits = i+8, digits+8
		}
		if i == len(s) {
			break
		}
		c, size := s[i], 1
		if c == '\\' {
			r, n := escaped(s[i:])
			if c, size = byte(r), n; r > 'z' {
				return false
			}
		}
		i += size
		switch {
		case c == '\n' || c == '\r':
		case ended:
			return false
		case c == '=':
			padding++
			if digits%4 < 2 {
				return false
			}
			ended = digits%4+padding == 4
		case base64Digit[c] == 0 || padding > 0:
			return false
		default:
			digits++
		}
	}
	return (digits+padding)%4 == 0
}

// base64Digit is 1 for the 64 digits.
var base64Digit = func() (digit [256]byte) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		digit[c] = 1
	}
	return digit
}()
