package web

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"
)

var (
	noonLimit  = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	fewAllowed = visitorLimits{every: 6 * time.Second, burst: 3, atOnce: 2, together: 3, known: 4}
)

func keyOf(from string) string {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = from
	return new(Handler).clientAddress(r)
}

func TestVisitors_BurstThenOneAtATime(t *testing.T) {
	vs := newVisitors(fewAllowed)
	now := noonLimit
	ask := func() *tooMuch {
		leave, no := vs.admit(keyOf("192.0.2.1:1"), now)
		if no == nil {
			leave()
		}
		return no
	}
	for i := range 3 {
		if no := ask(); no != nil {
			t.Fatalf("question %d is refused: %v", i+1, no)
		}
	}
	now = now.Add(2 * time.Second)
	if no := ask(); no == nil || no.wait != 4*time.Second || no.others {
		t.Fatalf("too soon: %+v, want 4s", no)
	}
	now = now.Add(4 * time.Second)
	if no := ask(); no != nil {
		t.Errorf("after 6s: %+v", no)
	}
	if no := ask(); no == nil {
		t.Error("a second one after 6s is answered")
	}
	now = now.Add(-time.Hour) // the clock was set back
	if no := ask(); no == nil || no.wait > fewAllowed.every {
		t.Errorf("clock set back: %+v", no)
	}
	now = now.Add(24 * time.Hour)
	for i := range 4 {
		if no := ask(); (no != nil) != (i == 3) {
			t.Errorf("after a day, question %d: %+v", i+1, no)
		}
	}
}

func TestVisitors_FewAtOnce(t *testing.T) {
	vs := newVisitors(fewAllowed)
	a, b := keyOf("192.0.2.1:1"), keyOf("192.0.2.2:1")
	first, _ := vs.admit(a, noonLimit)
	second, _ := vs.admit(a, noonLimit)
	if _, no := vs.admit(a, noonLimit); no == nil || no.others {
		t.Errorf("a third answer at once of one visitor: %+v", no)
	}
	third, no := vs.admit(b, noonLimit)
	if no != nil {
		t.Fatalf("another visitor: %+v", no)
	}
	if _, no := vs.admit(keyOf("192.0.2.3:1"), noonLimit); no == nil || !no.others {
		t.Errorf("a fourth answer at once of all: %+v", no)
	}
	first()
	if leave, no := vs.admit(a, noonLimit); no != nil {
		t.Errorf("after one has ended: %+v", no)
	} else {
		leave()
	}
	second()
	third()
	if vs.running != 0 {
		t.Errorf("%d run, want none", vs.running)
	}
}

func TestVisitors_TableIsBounded(t *testing.T) {
	vs := newVisitors(fewAllowed)
	first := keyOf("192.0.2.0:1")
	leave, _ := vs.admit(first, noonLimit)
	for i := range byte(100) {
		l, no := vs.admit(fmt.Sprint("198.51.100.", i), noonLimit)
		if no != nil {
			t.Fatalf("visitor %d: %+v", i, no)
		}
		l()
	}
	if len(vs.byKey) != fewAllowed.known || vs.order.Len() != fewAllowed.known || vs.byKey[first] != nil {
		t.Errorf("%d visitors are known, %d in order; want %d without the first", len(vs.byKey), vs.order.Len(), fewAllowed.known)
	}
	leave() // of one who was forgotten
	if vs.running != 0 {
		t.Errorf("%d run, want none", vs.running)
	}
}

func TestVisitorKey_IsTheNetworkOfOneVisitor(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:65000", true},
		{"192.0.2.1:1", "192.0.2.2:1", false},
		{"192.0.2.1:1", "[::ffff:192.0.2.1]:1", true},
		{"[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff:ffff:ffff:ffff]:1", true},
		{"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::1%eth1]:1", true},
		{"@", "", true},
		{"@", "192.0.2.1:1", false},
	} {
		if got := keyOf(c.a) == keyOf(c.b); got != c.same {
			t.Errorf("%s and %s: same %v, want %v", c.a, c.b, got, c.same)
		}
	}
}
