package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newer is a node with a route that the gateway does not know.
func newer(t *testing.T, route http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", goldenNode(t, 0.01))
	mux.HandleFunc("/api/new-thing", route)
	return mux
}

func TestPass_ARequestGoesAsItIsButForSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{site: SiteConfig{Pass: []string{"/api/new-thing"}}}, newer(t, func(w http.ResponseWriter, q *http.Request) {
			body, _ := io.ReadAll(q.Body)
			w.Header().Set("X-New", "yes")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "%s %s %s|%s|%s%s", q.Method, q.URL.RequestURI(), body, q.Header.Get("X-Thing"), q.Header.Get("Authorization"), q.Header.Get("Origin"))
		}))
		q, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://localhost/api/new-thing?a=b%20c", strings.NewReader(`{"model":1,"model":2} x`))
		q.Header.Set("X-Thing", "thing")
		q.Header.Set("Authorization", "Bearer secret")
		q.Header.Set("Origin", "http://localhost")
		resp, err := r.front.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		const want = `PUT /api/new-thing?a=b%20c {"model":1,"model":2} x|thing|`
		if resp.StatusCode != http.StatusTeapot || string(answer) != want || resp.Header.Get("X-New") != "yes" {
			t.Errorf("%d %q %v, want %q", resp.StatusCode, answer, resp.Header, want)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestPass_AnAnswerComesAsItArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{site: SiteConfig{Pass: []string{"/api/new-thing"}}}, newer(t, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 3 {
				fmt.Fprintln(w, i)
				http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
			}
		}))
		begun := time.Now()
		resp, err := r.post(t.Context(), "/api/new-thing", "")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for i := 0; lines.Scan(); i++ {
			if took := time.Since(begun); took != time.Duration(i)*time.Second || lines.Text() != fmt.Sprint(i) {
				t.Errorf("line %q after %v", lines.Text(), took)
			}
		}
	})
}

func TestPass_OnlyWhatASiteNamesIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{}, newer(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
		if code, answer, _ := r.ask("/api/new-thing", "{}"); code != 404 || answer != "404 page not found" {
			t.Errorf("%d %s", code, answer)
		}
	})
}

func TestPass_ANodeThatCannotBeReachedIsNotTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ok := newer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") })
		r := newRig(t, rigOptions{site: SiteConfig{Pass: []string{"/api/new-thing"}}}, goldenNode(t, 0.01), ok)
		r.nodes[0].Close() // nobody has noticed yet
		if code, answer, _ := r.ask("/api/new-thing", "{}"); code != 200 || answer != "done" {
			t.Errorf("%d %s, want the other node's answer", code, answer)
		}
	})
}

func TestPass_ABrokenAnswerIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{site: SiteConfig{Pass: []string{"/api/new-thing"}}}, newer(t, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}))
		resp, err := r.post(t.Context(), "/api/new-thing", "")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if answer, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%q ended in order", answer)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestSite_PassRefusesWhatIsServedOrUnreachable(t *testing.T) {
	for path, want := range map[string]string{
		"/api/chat": "a route of the gateway itself", "/api/tags": "a route of the gateway itself",
		"/api/pull": "a route of the gateway itself", "/v1/models/x": "a route of the gateway itself",
		"/api//x": "redirected", "/api/chat/": "redirected", "api/x": "not a path", "/api/*": "not a path", "": "not a path",
		"/v1/audio/transcriptions": "", "/api/new-thing": "",
	} {
		_, err := NewSite(SiteConfig{Pass: []string{path}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}
