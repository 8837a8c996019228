package simnode_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A wish is one request of a random history.
type wish struct {
	after  time.Duration // since the beginning
	model  string
	tokens int
	ctx    int           // num_ctx, 0 for none
	leave  time.Duration // since it was sent; 0: stays
}

func drawWish(t *rapid.T) wish {
	w := wish{
		after:  time.Duration(rapid.IntRange(0, 60_000).Draw(t, "after")) * time.Millisecond,
		model:  rapid.SampledFrom([]string{"a", "b", "c", "d", "vectors"}).Draw(t, "model"),
		tokens: rapid.IntRange(1, 20).Draw(t, "tokens"),
		ctx:    rapid.SampledFrom([]int{0, 0, 0, 0, 512}).Draw(t, "num_ctx"),
	}
	if rapid.IntRange(0, 3).Draw(t, "leaves") == 0 {
		w.leave = time.Duration(rapid.IntRange(1, 30_000).Draw(t, "leave")) * time.Millisecond
	}
	return w
}

// Whatever is asked in whatever order: never more answers than slots at once, never more runners than allowed, every
// request that stays is answered, and nothing stays booked at the end.
func TestNode_BooksAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := simnode.Options{
			Models:    clockModels(),
			Slots:     rapid.IntRange(1, 3).Draw(rt, "slots"),
			MaxLoaded: rapid.IntRange(1, 3).Draw(rt, "max loaded"),
			MaxQueue:  rapid.IntRange(1, 30).Draw(rt, "max queue"),
			KeepAlive: time.Duration(rapid.IntRange(1, 120).Draw(rt, "keep alive")) * time.Second,
		}
		wishes := rapid.SliceOfN(rapid.Custom(drawWish), 1, 15).Draw(rt, "wishes")
		var complaints []string
		inBubble(t, opts, func(t *testing.T, b *bubble) {
			complaints = play(t, b, opts, wishes)
		})
		for _, c := range complaints {
			rt.Error(c)
		}
	})
}

func play(t *testing.T, b *bubble, opts simnode.Options, wishes []wish) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	answers := make([]chan answer, len(wishes))
	for i, w := range wishes {
		answers[i] = make(chan answer, 1)
		go func() { // ends with its answer
			time.Sleep(w.after)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if w.leave > 0 {
				timer := time.AfterFunc(w.leave, leave)
				defer timer.Stop()
			}
			options := fmt.Sprintf(`{"num_predict":%d}`, w.tokens)
			if w.ctx > 0 {
				options = fmt.Sprintf(`{"num_predict":%d,"num_ctx":%d}`, w.tokens, w.ctx)
			}
			if w.model == "vectors" {
				answers[i] <- b.call(ctx, "/api/embed", `{"model":"vectors","input":["x","y"],"options":`+options+`}`)
				return
			}
			answers[i] <- b.call(ctx, "/api/generate", `{"model":"`+w.model+`","prompt":"x","options":`+options+`}`)
		}()
	}
	refused := 0
	for i, w := range wishes {
		a := <-answers[i]
		switch {
		case a.err == nil && a.status == 503:
			refused++
		case w.leave > 0: // it may have left at any moment, or been answered before
		case a.err != nil || a.status != 200:
			complain("%+v: status %d, error %v, body %s", w, a.status, a.err, a.body)
		case w.model == "vectors" && len(a.last(t).Embeddings) != 2, w.model != "vectors" && a.last(t).EvalCount != w.tokens:
			complain("%+v: body %s", w, a.body)
		}
	}
	synctest.Wait()
	s := b.node.Stats()
	if s.Refused != refused || s.Queue != 0 || s.PeakQueue > opts.MaxQueue+1 {
		complain("refused %d (seen %d), queue %d, peak %d", s.Refused, refused, s.Queue, s.PeakQueue)
	}
	for name, m := range s.Models {
		slots := opts.Slots
		if name == "vectors:latest" {
			slots = 1
		}
		if m.Peak > slots || m.Running != 0 || m.Waiting != 0 {
			complain("%s: peak %d of %d slots, running %d, waiting %d", name, m.Peak, slots, m.Running, m.Waiting)
		}
	}
	time.Sleep(opts.KeepAlive + time.Second)
	synctest.Wait()
	s = b.node.Stats()
	if left := b.loaded(); left != "" || s.Loads != s.Evictions+s.Expired {
		complain("loaded at the end %q; loads %d, evictions %d, expired %d", left, s.Loads, s.Evictions, s.Expired)
	}
	return complaints
}
