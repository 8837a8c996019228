package simnode_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A gibberish is a file that nobody has to make first.
type gibberish struct{ left int64 }

func (g *gibberish) Read(p []byte) (int, error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), g.left))
	clear(p[:n])
	g.left -= int64(n)
	return n, nil
}

func TestBlob_LargeOneIsNotKept(t *testing.T) {
	n := newNode(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const url, size = "/api/blobs/sha256:" + zeros512, 512 << 20
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequest(http.MethodPost, url, &gibberish{size}))
	if w.Code != http.StatusCreated {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if grew := int64(heap()) - int64(before); grew > 8<<20 {
		t.Errorf("the node grew by %d bytes for a file of %d", grew, size)
	}
	if status, _ := ask(t, n, http.MethodHead, url, ""); status != 200 {
		t.Errorf("HEAD: %d", status)
	}
}

// zeros512 is the digest of 512 MiB of zero bytes.
const zeros512 = "9acca8e8c22201155389f65abbf6bc9723edc7384ead80503839f49dcc56d767"

func TestBlob_TakesItsTimeAndItsSpace(t *testing.T) {
	opts := simnode.Options{WriteRate: 1000, Disk: 2500, Models: []simnode.Model{}}
	inBubble(t, opts, func(t *testing.T, b *bubble) {
		content := strings.Repeat("x", 2000)
		if a := b.post("/api/blobs/sha256:"+sum(content), content); a.status != http.StatusCreated || a.end != 2*time.Second {
			t.Errorf("%d at %v", a.status, a.end)
		}
		a := b.post("/api/blobs/sha256:"+sum(content+"y"), content+"y")
		if a.status != 500 || !strings.Contains(a.body, "write /var/lib/ollama/models/blobs/sha256-") || !strings.Contains(a.body, ": no space left on device") {
			t.Errorf("no room: %d %s", a.status, a.body)
		}
		if a := b.post("/api/blobs/sha256:"+sum("small"), "small"); a.status != http.StatusCreated { // what did not fit is gone
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

func TestBlob_KeepsWhatItWasNotPromised(t *testing.T) {
	n := newNode(t)
	if status, _ := ask(t, n, http.MethodPost, "/api/blobs/sha256:"+sum("other"), "content"); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
	for content, want := range map[string]int{"content": 200, "other": 404} {
		if status, _ := ask(t, n, http.MethodHead, "/api/blobs/sha256:"+sum(content), ""); status != want {
			t.Errorf("%s: %d, want %d", content, status, want)
		}
	}
}

func TestBlob_UploadBreaksInTheMiddle(t *testing.T) {
	content := strings.Repeat("x", 100_000)
	for words, dies := range map[string]bool{
		"upload=50000,die,restart=1s":   true,
		"upload=50000,end=reset":        false,
		"upload=50000,end=close":        false,
		"upload=50000,end=close,path=*": false,
	} {
		t.Run(words, func(t *testing.T) {
			inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
				f, err := simnode.ParseFault(words + ",first=1")
				if err != nil {
					t.Fatal(err)
				}
				if err := b.node.SetFaults(f); err != nil {
					t.Fatal(err)
				}
				if a := b.call(t.Context(), "/api/blobs/sha256:"+sum(content), content); a.err == nil {
					t.Errorf("answered %d %s", a.status, a.body)
				}
				if got := b.node.Stats().Deaths == 1; got != dies {
					t.Errorf("died: %t", got)
				}
				time.Sleep(2 * time.Second)
			})
		})
	}
}

func TestBlob_UploadThatBreaksTakesNoSpace(t *testing.T) {
	content := strings.Repeat("x", 100_000)
	inBubble(t, simnode.Options{Disk: 120_000, Models: []simnode.Model{}}, func(t *testing.T, b *bubble) {
		if err := b.node.SetFaults(simnode.Fault{Upload: 50_000, End: "close", First: 1}); err != nil {
			t.Fatal(err)
		}
		b.call(t.Context(), "/api/blobs/sha256:"+sum(content), content)
		if a := b.post("/api/blobs/sha256:"+sum(content), content); a.status != http.StatusCreated {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

func TestBlob_UploadThatIsNotReadEndsWithTheNode(t *testing.T) {
	content := strings.Repeat("x", 1_000_000)
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		if err := b.node.SetFaults(simnode.Fault{Upload: 500_000, Never: true}); err != nil {
			t.Fatal(err)
		}
		wait := b.start(t.Context(), "/api/blobs/sha256:"+sum(content), content)
		time.Sleep(time.Hour)
		if got := b.node.Stats().Running; got != 1 {
			t.Errorf("%d requests run", got)
		}
		b.node.Close()
		if a := wait(); a.err == nil {
			t.Errorf("answered %d", a.status)
		}
	})
}
