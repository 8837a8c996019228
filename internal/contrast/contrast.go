// Package contrast is test support: what the colours of a stylesheet are, and whether they are told
// apart.
package contrast

import (
	"math"
	"regexp"
	"strconv"
	"testing"
)

var (
	root   = regexp.MustCompile(`(?s):root \{(.*?)\}`)
	colour = regexp.MustCompile(`--([\w-]+): (#\w+)`)
)

// A Scheme has the colours of a stylesheet by the names of their variables, written as #rgb or #rrggbb.
type Scheme map[string]string

// Schemes are the light and the dark one of a stylesheet, in its blocks :root.
func Schemes(t *testing.T, css string) [2]Scheme {
	t.Helper()
	blocks := root.FindAllStringSubmatch(css, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d schemes, want light and dark", len(blocks))
	}
	var schemes [2]Scheme
	for i, block := range blocks {
		schemes[i] = Scheme{}
		for _, m := range colour.FindAllStringSubmatch(block[1], -1) {
			schemes[i][m[1]] = m[2]
		}
	}
	return schemes
}

// Check fails the test if the contrast of a mark on a ground is less than least.
func (s Scheme) Check(t *testing.T, mark, ground string, least float64) {
	t.Helper()
	a, b := luminance(t, s[mark]), luminance(t, s[ground])
	if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < least {
		t.Errorf("%s on %s (%s on %s) has a contrast of %.2f, want %.1f", mark, ground, s[mark], s[ground], got, least)
	}
}

// luminance is that of WCAG 2.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	if len(colour) == 4 {
		colour = string([]byte{'#', colour[1], colour[1], colour[2], colour[2], colour[3], colour[3]})
	}
	if len(colour) != 7 {
		t.Fatalf("colour %q is neither #rgb nor #rrggbb", colour)
	}
	n, err := strconv.ParseUint(colour[1:], 16, 24)
	if err != nil {
		t.Fatalf("colour %q: %v", colour, err)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		x := float64(n>>(16-8*i)&0xff) / 255
		if x <= 0.03928 {
			x /= 12.92
		} else {
			x = math.Pow((x+0.055)/1.055, 2.4)
		}
		sum += weight * x
	}
	return sum
}
