package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// halfKept keeps the vectors of some texts of a recorded request.
type halfKept struct{ known []*call.Vector } // of its different texts

func (h *halfKept) Lookup(context.Context, *call.Call, []call.Question) ([]*call.Vector, call.Keep) {
	return h.known, nil
}

// A recorded answer of which some vectors are known and the others come from a node is the
// recorded one again, byte for byte, the times too.
func TestAnswer_MergedIsTheRecordedAnswer(t *testing.T) {
	merged, whole := 0, 0
	for path, file := range map[string]string{"/api/embed": "embed", "/api/embeddings": "embeddings", "/v1/embeddings": "openai-embeddings"} {
		route := *wire.Find("POST", path).Route
		for _, rec := range golden.Load(t, file) {
			request, err := wire.Parse(route, rec.Request.Body)
			if rec.Response.Status != 200 || err != nil {
				continue
			}
			e, ok := request.Embedding(1000)
			if !ok || request.KeepAlive != nil {
				continue
			}
			said, err := wire.Embeddings(route, rec.Response.Body)
			if err != nil {
				t.Fatalf("%s/%s: %v", file, rec.ID, err)
			}
			// Each second of the different texts is known; all where there is one and no time is told.
			kept, seen, rest, left := &halfKept{}, map[string]int{}, wire.Embedded{Total: said.Total, Load: said.Load}, said.Tokens
			for i, text := range e.Texts() {
				if at, again := seen[string(text.JSON)]; again {
					if v := kept.known[at]; v != nil {
						left -= v.Tokens
					}
					continue
				}
				seen[string(text.JSON)] = len(kept.known)
				var known *call.Vector
				if tokens := said.Tokens / len(e.Texts()); i%2 == 0 && (len(e.Texts()) > 1 || path != "/api/embed") {
					known = &call.Vector{Text: said.Vectors[i], Tokens: tokens}
					left -= tokens
				} else {
					rest.Vectors = append(rest.Vectors, said.Vectors[i])
				}
				kept.known = append(kept.known, known)
			}
			if rest.Vectors == nil {
				kept.known[0].Tokens = said.Tokens
			}
			rest.Tokens = left
			synctest.Test(t, func(t *testing.T) {
				node := answerer(func(ctx context.Context, c *call.Call) (*recording.Reader, error) {
					var sent struct{ Input any }
					body, _ := c.Seal()
					if err := json.Unmarshal(body.Bytes(), &sent); err != nil {
						t.Error(err)
					}
					if list, is := sent.Input.([]any); is && len(list) != len(rest.Vectors) {
						t.Errorf("%s/%s: sent %d texts, want %d", file, rec.ID, len(list), len(rest.Vectors))
					}
					time.Sleep(said.Total)
					contentType, object := rest.Answer(route, c.Request.Model.Spelling)
					return recording.Replay(route, recording.Whole{ContentType: contentType, Object: object}), nil
				})
				b := newBench(t, nil, Options{MaxItems: 100}, kept, node)
				r, err := b.Step.Answer(t.Context(), asking(t, path, string(rec.Request.Body)))
				if err != nil {
					t.Fatalf("%s/%s: %v", file, rec.ID, err)
				}
				if _, object, _ := r.Object(); !bytes.Equal(object, rec.Response.Body) {
					t.Errorf("%s/%s\ngot  %s\nwant %s", file, rec.ID, object, rec.Response.Body)
				}
				r.Close()
				b.end()
				b.Jobs.Wait()
			})
			if len(rest.Vectors) < len(kept.known) {
				merged++
			} else {
				whole++
			}
		}
	}
	if merged < 10 || whole < 8 {
		t.Errorf("%d answers merged and %d whole, want all that are recorded", merged, whole)
	}
}
