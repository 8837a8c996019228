package assistant

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func never(http.ResponseWriter, *http.Request) { panic("a model was asked") }

func TestModel_IsTheConfiguredOneElseTheFirstThatCanChat(t *testing.T) {
	only := `{"models":[{"name":"tinyembed:latest","digest":"1"}]}`
	for name, c := range map[string]struct{ configured, models, want string }{
		"configured":                {"tiny2", "", "tiny2"},
		"configured in other words": {"library/TINY2:latest", "", "library/TINY2:latest"},
		"configured but not there":  {"llama9", "", "tinyslow:latest"},
		"none configured":           {"", "", "tinyslow:latest"},
		"embedding first": {
			"", `{"models":[{"name":"tinyembed:latest","digest":"1"},{"name":"tiny:latest","digest":"2"}]}`, "tiny:latest",
		},
		"the list says what they can": {
			"", `{"models":[{"name":"a","capabilities":["embedding"]},{"name":"b","capabilities":["completion","tools"]}]}`, "b",
		},
		"hosted elsewhere": {"", `{"models":[{"name":"big:120b-cloud","capabilities":["completion"]},{"name":"b","capabilities":["completion"]}]}`, "b"},
		"only embeddings":  {"", only, ""},
		"nothing":          {"", `{"models":[]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, never)
			if c.models != "" {
				g.models = c.models
			}
			got, err := dial(t, g, Options{Model: c.configured}).Model(t.Context())
			if got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrNoModel) {
				t.Errorf("model %q, error %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestModel_IsAskedForOnceInHalfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, never)
		a := dial(t, g, Options{})
		look := func() {
			if name, err := a.Model(t.Context()); name != "tinyslow:latest" || err != nil {
				t.Errorf("model %q, error %v", name, err)
			}
		}
		for range 10 {
			go look()
		}
		synctest.Wait()
		if n := len(g.asked("/api/tags")); n != 1 {
			t.Fatalf("asked %d times, want once", n)
		}
		time.Sleep(modelsFor)
		look()
		if n, shown := len(g.asked("/api/tags")), len(g.asked("/api/show")); n != 2 || shown != 1 {
			t.Errorf("the list was asked for %d times, want 2; a model %d times, want 1", n, shown)
		}
	})
}

func TestModel_StaysWhenAnotherIsInstalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, never)
		g.models = `{"models":[{"name":"a","digest":"1","capabilities":["completion"]}]}`
		a := dial(t, g, Options{})
		for _, c := range []struct{ models, want string }{
			{g.models, "a"},
			{`{"models":[{"name":"new","digest":"2","capabilities":["completion"]},{"name":"a","digest":"1","capabilities":["completion"]}]}`, "a"},
			{`{"models":[{"name":"new","digest":"2","capabilities":["completion"]}]}`, "new"},
			{`no JSON`, "new"}, // what is known is better than nothing
			{`{"models":[]}`, ""},
		} {
			g.models = c.models
			if got, _ := a.Model(t.Context()); got != c.want {
				t.Errorf("with %s: model %q, want %q", c.models, got, c.want)
			}
			time.Sleep(modelsFor)
		}
	})
}

func TestModel_DeadGatewayIsNotWaitedForByEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 0
		g := newGateway(t, never)
		g.mux = http.NewServeMux()
		g.mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); left++ })
		a := dial(t, g, Options{})
		began := time.Now()
		for range 10 {
			if _, err := a.Model(t.Context()); !errors.Is(err, ErrUnavailable) {
				t.Errorf("error %v, want %v", err, ErrUnavailable)
			}
		}
		if took := time.Since(began); took != modelsTimeout {
			t.Errorf("ten visitors waited %v, want %v", took, modelsTimeout)
		}
		time.Sleep(failureFor)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = a.Model(ctx) // who has left says nothing of the gateway
		if c := a.chosen.Load(); c.fresh() {
			t.Errorf("a visitor that left is remembered as %v", c.err)
		}
		synctest.Wait()
		if left != 2 {
			t.Errorf("%d requests have ended, want 2", left)
		}
	})
}

func TestModel_OneThatIsGoneIsLookedForAnew(t *testing.T) {
	g := newGateway(t, never)
	g.mux = http.NewServeMux()
	models := `{"models":[{"name":"old","capabilities":["completion"]}]}`
	g.mux.HandleFunc("/api/tags", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, models) })
	g.mux.HandleFunc("/api/chat", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body[:16]) == `{"model":"old","` {
			models = `{"models":[{"name":"new","capabilities":["completion"]}]}`
			w.WriteHeader(http.StatusNotFound)
			return
		}
		io.WriteString(w, record+last)
	})
	a := dial(t, g, Options{})
	if _, _, err := ask(t.Context(), a); !errors.Is(err, ErrNoModel) {
		t.Fatalf("error %v, want %v", err, ErrNoModel)
	}
	if _, reply, err := ask(t.Context(), a); reply.Model != "new" || err != nil {
		t.Errorf("reply %+v, error %v", reply, err)
	}
}
