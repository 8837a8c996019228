package wire

import (
	"math"
	"strconv"
	"time"
)

// parseKeepAlive reads the JSON text of a keep_alive that is not null: seconds, or a string as
// time.ParseDuration takes it. Negative means for ever and comes out as -1, and so does what
// no duration can hold. ok is false for other types and for strings that are no duration.
func parseKeepAlive(text []byte) (d time.Duration, ok bool) {
	switch {
	case len(text) > 0 && text[0] == '"':
		d, err := time.ParseDuration(string(appendText(nil, text[1:len(text)-1])))
		return max(d, -1), err == nil
	case len(text) > 0 && isNumber(text[0]):
		seconds, err := strconv.ParseFloat(string(text), 64)
		if ns := seconds * float64(time.Second); ns < 0 || ns >= math.MaxInt64 {
			d = -1
		} else {
			d = time.Duration(ns)
		}
		return d, err == nil
	}
	return 0, false
}
