package status

import (
	"math"
	"regexp"
	"strconv"
	"testing"
)

// luminance is that of WCAG 2, of a colour written as #rgb or #rrggbb.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	digits := colour[1:]
	if len(digits) == 3 {
		digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
	}
	n, err := strconv.ParseUint(digits, 16, 24)
	if err != nil {
		t.Fatalf("%q: %v", colour, err)
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

func TestPage_ColoursAreToldApart(t *testing.T) {
	css := string(assets["page.css"].body)
	schemes := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(css, -1)
	if len(schemes) != 2 {
		t.Fatalf("%d schemes, want light and dark", len(schemes))
	}
	for i, scheme := range schemes {
		colours := make(map[string]string)
		for _, m := range regexp.MustCompile(`--([\w-]+): (#\w+)`).FindAllStringSubmatch(scheme[1], -1) {
			colours[m[1]] = m[2]
		}
		check := func(mark, ground string, least float64) {
			a, b := luminance(t, colours[mark]), luminance(t, colours[ground])
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < least {
				t.Errorf("scheme %d: %s on %s has a contrast of %.2f, want %.1f", i, mark, ground, got, least)
			}
		}
		for _, text := range []string{"text", "dim", "ok", "warn", "bad", "focus"} {
			check(text, "ground", 4.5)
			check(text, "card", 4.5)
		}
		for _, notice := range []string{"ok", "warn", "bad"} {
			check(notice, notice+"-bg", 4.5)
		}
		for _, mark := range []string{"answered", "cache", "overloaded", "failed", "clients", "p50", "p95", "tokens", "waiting"} {
			check(mark, "card", 3)
		}
	}
}
