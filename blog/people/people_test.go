package people

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
	"github.com/caddy-ollama/caddy-ollama/internal/pgtest"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const secret = "correct horse ﬁne"

func open(t *testing.T) (*People, blog.Author) {
	t.Helper()
	s, err := store.OpenSQLite(filepath.Join(t.TempDir(), "blog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := New(s)
	a, err := p.Create(t.Context(), "Ann", " Ann  安 ", secret, noon)
	if err != nil {
		t.Fatal(err)
	}
	return p, a
}

func TestLogin_SessionAndLogout(t *testing.T) {
	p, a := open(t)
	if a.Name != "ann" || a.Shown != "Ann 安" || strings.Contains(a.Password, "horse") {
		t.Errorf("author %+v", a)
	}
	tokens := map[string]bool{}
	for _, password := range []string{secret, "correct horse fine"} { // NFKC makes them one
		token, err := p.Login(t.Context(), "ANN", password, "192.0.2.1", noon)
		if err != nil || len(token) != 43 || tokens[token] {
			t.Fatalf("login: %q, %v", token, err)
		}
		tokens[token] = true
		got, err := p.SignedIn(t.Context(), token, noon.Add(29*24*time.Hour))
		if err != nil || got.ID != a.ID {
			t.Errorf("signed in: %+v, %v", got, err)
		}
		if _, err := p.SignedIn(t.Context(), token, noon.Add(31*24*time.Hour)); !errors.Is(err, blog.ErrNotFound) {
			t.Errorf("after 31 days: %v", err)
		}
	}
	for token := range tokens {
		if err := p.Logout(t.Context(), token); err != nil {
			t.Error(err)
		}
		if _, err := p.SignedIn(t.Context(), token, noon); !errors.Is(err, blog.ErrNotFound) {
			t.Errorf("after logout: %v", err)
		}
	}
	if _, err := p.SignedIn(t.Context(), "", noon); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("no token: %v", err)
	}
}

func TestLogin_SaysNotWhatIsWrong(t *testing.T) {
	p, _ := open(t)
	if _, err := p.Create(t.Context(), "bob", "", "", noon); err != nil { // by link only
		t.Fatal(err)
	}
	for i, c := range []struct{ name, password string }{
		{"ann", "wrong password"},
		{"ann", ""},
		{"nobody", secret},
		{"bob", ""},
		{"bob", "nobody has this one"},
		{"' OR ''='", secret},
		{"ann", strings.Repeat("x", 1<<20)},
	} {
		// From an address each: this is not about waiting.
		if _, err := p.Login(t.Context(), c.name, c.password, string(rune('a'+i)), noon); !errors.Is(err, ErrWrong) {
			t.Errorf("%s with %.20q: got error %v, want %v", c.name, c.password, err, ErrWrong)
		}
	}
}

// PostgreSQL takes no such text, which is not the database's fault.
func TestLogin_OfWhatIsNoNameIsWrong(t *testing.T) {
	s, err := store.OpenPostgres(pgtest.Start(t).Database())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"", "a\x00b", "\xff", "ann lee"} {
		address := fmt.Sprint("192.0.2.", i)
		if _, err := New(s).Login(t.Context(), name, secret, address, noon); !errors.Is(err, ErrWrong) {
			t.Errorf("login of %q: %v, want %v", name, err, ErrWrong)
		}
	}
}

func TestLogin_FailuresSlowDownAccountAndAddress(t *testing.T) {
	p, _ := open(t)
	fail := func(name, address string, at time.Time) error {
		_, err := p.Login(t.Context(), name, "wrong password", address, at)
		return err
	}
	for range 5 {
		if err := fail("ann", "192.0.2.1", noon); !errors.Is(err, ErrWrong) {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, account, address string
		after, want            time.Duration
	}{
		{"the same", "ann", "192.0.2.1", 0, 2 * time.Second},
		{"from elsewhere", "ann", "192.0.2.2", time.Second, time.Second},
		{"another account", "nobody", "192.0.2.1", 0, 2 * time.Second},
		{"both another", "nobody", "192.0.2.2", 0, 0},
		{"later", "ann", "192.0.2.3", 2 * time.Second, 0}, // and counts
		{"again", "ann", "192.0.2.4", 2 * time.Second, 4 * time.Second},
	} {
		var wait *WaitError
		err := fail(c.account, c.address, noon.Add(c.after))
		if got := errors.As(err, &wait); got != (c.want > 0) || got && wait.Wait != c.want {
			t.Errorf("%s: got error %v, want a wait of %v", c.name, err, c.want)
		}
	}
	if _, err := p.Login(t.Context(), "ann", secret, "192.0.2.5", noon.Add(time.Minute)); err != nil {
		t.Errorf("the right password after the wait: %v", err)
	}
	if err := fail("ann", "192.0.2.6", noon.Add(time.Minute)); !errors.Is(err, ErrWrong) {
		t.Errorf("a login forgets failures: %v", err)
	}
}

func TestLogin_GuessesAtOnceAreCounted(t *testing.T) {
	p, _ := open(t)
	var looked atomic.Int32
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			_, err := p.Login(t.Context(), "ann", "wrong password", fmt.Sprint("192.0.2.", i), noon)
			var wait *WaitError
			switch {
			case errors.Is(err, ErrWrong):
				looked.Add(1)
			case !errors.As(err, &wait):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := looked.Load(); n < 1 || n > 5 {
		t.Errorf("%d of 30 guesses at once were looked at, want 5 at most", n)
	}
}

func TestBackOff_Bounded(t *testing.T) {
	for failures, want := range map[int]time.Duration{0: 0, 4: 0, 5: 2 * time.Second, 6: 4 * time.Second, 14: 15 * time.Minute, 1 << 40: 15 * time.Minute} {
		if got := backOff(failures); got != want {
			t.Errorf("after %d failures: %v, want %v", failures, got, want)
		}
	}
}

func TestLink_SignsInOnce(t *testing.T) {
	p, a := open(t)
	token, err := p.NewLink(t.Context(), a.ID, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UseLink(t.Context(), token, noon.Add(25*time.Hour)); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("after a day: %v", err)
	}
	session, err := p.UseLink(t.Context(), token, noon)
	if err != nil || session == token {
		t.Fatalf("use: %v", err)
	}
	if got, err := p.SignedIn(t.Context(), session, noon); err != nil || got.ID != a.ID {
		t.Errorf("signed in: %+v, %v", got, err)
	}
	if _, err := p.UseLink(t.Context(), token, noon); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("used twice: %v", err)
	}
}

func TestSetPassword_EndsSessions(t *testing.T) {
	p, a := open(t)
	session, err := p.Login(t.Context(), "ann", secret, "192.0.2.1", noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetPassword(t.Context(), a.ID, "another password"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SignedIn(t.Context(), session, noon); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("a session from before: %v", err)
	}
	if _, err := p.Login(t.Context(), "ann", secret, "192.0.2.1", noon); !errors.Is(err, ErrWrong) {
		t.Errorf("the old password: %v", err)
	}
	if _, err := p.Login(t.Context(), "ann", "another password", "192.0.2.1", noon); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

func TestCreate_SaysWhatIsWanted(t *testing.T) {
	p, _ := open(t)
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"ann", secret, blog.ErrConflict},
		{"", secret, ErrName},
		{"a b", secret, ErrName},
		{"<script>", secret, ErrName},
		{"carl", "short", ErrPassword},
		{"carl", strings.Repeat("x", 201), ErrPassword},
	} {
		if _, err := p.Create(t.Context(), c.name, "", c.password, noon); !errors.Is(err, c.want) {
			t.Errorf("%q: got error %v, want %v", c.name, err, c.want)
		}
	}
}

func TestHashing_WaitsForItsTurnAndNoLonger(t *testing.T) {
	p, _ := open(t)
	for range hashesAtOnce {
		p.hashing <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.SetPassword(ctx, 1, secret); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestSamePassword_RefusesWhatWouldCostTooMuch(t *testing.T) {
	good := hashPassword(secret)
	if same, err := samePassword(good, secret); !same || err != nil {
		t.Errorf("the right one: %v, %v", same, err)
	}
	for _, stored := range []string{
		"", "$", secret, "$argon2i$" + good[10:], strings.Replace(good, "m=19456", "m=4294967295", 1), strings.Replace(good, "t=2", "t=100000", 1),
		strings.Replace(good, "t=2", "t=0", 1), strings.Replace(good, "p=1", "p=0", 1), good[:len(good)-40],
	} {
		if same, err := samePassword(stored, secret); same || !errors.Is(err, errFormat) {
			t.Errorf("%q: %v, %v", stored, same, err)
		}
	}
}
