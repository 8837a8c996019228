package gateway

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/manage"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A taker is a simulated node that counts the blobs it is sent.
type taker struct {
	*simnode.Node
	begun, running atomic.Int32
}

func newTaker(t *testing.T, opts simnode.Options, faults ...simnode.Fault) *taker {
	opts.Models, opts.Scale = []simnode.Model{{Name: "tiny"}}, 0.01
	n := &taker{Node: simnode.New(opts)}
	t.Cleanup(n.Close)
	if err := n.SetFaults(faults...); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/api/blobs/") {
		n.begun.Add(1)
		n.running.Add(1)
		defer n.running.Add(-1)
	}
	n.Node.ServeHTTP(w, r)
}

// takingRig is a gateway whose clients may change models, before nodes that take blobs.
func takingRig(t *testing.T, c ManageConfig, nodes ...*taker) *rig {
	handlers := make([]http.Handler, len(nodes))
	for i, n := range nodes {
		handlers[i] = n
	}
	return newRig(t, rigOptions{site: SiteConfig{Manage: true, Managing: c}}, handlers...)
}

// ggufOf is what a simulated node takes for a model, of so many bytes, and its digest.
func ggufOf(size int) (content, digest string) {
	content = "GGUF\x03\x00\x00\x00" + strings.Repeat("weights ", size/8)
	return content, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))
}

func blobAt(digest string) string { return "/api/blobs/" + digest }

// has tells whether a node has a blob.
func (r *rig) has(node int, digest string) bool {
	status, _ := r.send(node, http.MethodHead, blobAt(digest), "")
	return status == http.StatusOK
}

// serving are the nodes that serve a model now.
func (r *rig) serving(model string) []string {
	r.Helper()
	name, err := wire.ParseModelName(model)
	if err != nil {
		r.Fatal(err)
	}
	m := r.engine.fleet.Snapshot().Models[name.Key()]
	if m == nil {
		return nil
	}
	return names(m.Nodes)
}

func TestBlob_AModelFromAFileIsMadeOnAllNodesThatTookIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, digest := ggufOf(1 << 20)
		full := simnode.Options{Disk: 100_000}
		slow := simnode.Options{WriteRate: 100_000, Dir: "/srv/models"}
		r := takingRig(t, ManageConfig{},
			newTaker(t, simnode.Options{}), newTaker(t, full), newTaker(t, slow), newTaker(t, simnode.Options{}, simnode.Fault{Upload: 500_000, End: "close"}))
		log := audited(r.engine)
		if status, _, _ := r.asks("HEAD", blobAt(digest), ""); status != http.StatusNotFound {
			t.Errorf("%d before anybody has it", status)
		}
		log.take()
		status, answer, header := r.asks("POST", blobAt(digest), content)
		if status != http.StatusCreated || answer != "" || header.Get("Content-Length") != "0" {
			t.Errorf("%d %q %v", status, answer, header)
		}
		if lines := log.take(); len(lines) != 1 || lines[0]["nodes"] != "[n0 ok n1 no_space n2 ok n3 lost]" || lines[0]["model"] != digest || lines[0]["operation"] != "blob" {
			t.Errorf("audited %v", lines)
		}
		status, answer, _ = r.asks("POST", "/api/create", `{"model":"made","files":{"w.gguf":"`+digest+`"}}`)
		lacks := func(node string) string {
			return `{"status":"failed on ` + node + `: it lacks a file that the model is made of"}` + "\n"
		}
		if end := lacks("n1") + lacks("n3") + succeeded + "\n"; status != 200 || !strings.HasSuffix(answer, end) {
			t.Errorf("%d %s, want the end %s", status, answer, end)
		}
		if got := fmt.Sprint(r.serving("made")); !r.listed("made:latest") || got != "[n0 n2]" {
			t.Errorf("served by %s", got)
		}
		if status, answer, _ := r.asks("POST", "/api/show", `{"model":"made"}`); status != 200 || !strings.Contains(answer, `"format":"gguf"`) {
			t.Errorf("show: %d %s", status, answer)
		}
		if status, answer, _ := r.asks("DELETE", "/api/delete", `{"model":"made"}`); status != 200 || r.listed("made:latest") {
			t.Errorf("delete: %d %s", status, answer)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestBlob_NodesThatFailAreNamed(t *testing.T) {
	content, digest := ggufOf(200_000)
	full, cut := simnode.Options{Disk: 100_000}, simnode.Fault{Upload: 100_000, End: "close"}
	for name, c := range map[string]struct {
		config ManageConfig
		nodes  func(*testing.T) []*taker
		status int
		answer string
	}{
		"one of two, all have to": {ManageConfig{RequireAll: true}, func(t *testing.T) []*taker {
			return []*taker{newTaker(t, simnode.Options{}), newTaker(t, full)}
		}, 500, `{"error":"failed on n1: no space left on its disk; done on n0"}`},
		"all": {ManageConfig{}, func(t *testing.T) []*taker {
			return []*taker{newTaker(t, simnode.Options{}, cut), newTaker(t, full)}
		}, 500, `{"error":"failed on n0: the connection was lost; failed on n1: no space left on its disk"}`},
		"the only one": {ManageConfig{}, func(t *testing.T) []*taker { return []*taker{newTaker(t, full)} }, 500, `{"error":"failed on n0: no space left on its disk"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := takingRig(t, c.config, c.nodes(t)...)
				status, answer, header := r.asks("POST", blobAt(digest), content)
				if status != c.status || answer != c.answer || header.Get("Content-Type") != "application/json; charset=utf-8" {
					t.Errorf("%d %s %v, want %d %s", status, answer, header, c.status, c.answer)
				}
				synctest.Wait()
				r.idle()
			})
		})
	}
}

func TestBlob_AClientThatLeavesEndsItOnAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*taker{newTaker(t, simnode.Options{}), newTaker(t, simnode.Options{}), newTaker(t, simnode.Options{})}
		r := takingRig(t, ManageConfig{}, nodes...)
		log := audited(r.engine)
		content, digest := ggufOf(200_000)
		ctx, leave := context.WithCancel(t.Context())
		body, feed := io.Pipe()
		q, _ := http.NewRequestWithContext(ctx, "POST", "http://localhost"+blobAt(digest), body)
		q.ContentLength = int64(len(content))
		left := make(chan error)
		go func() { // ends when the client leaves
			_, err := r.front.RoundTrip(q)
			left <- err
		}()
		io.WriteString(feed, content[:100_000])
		synctest.Wait()
		for i, n := range nodes {
			if n.running.Load() != 1 {
				t.Errorf("n%d is sent nothing", i)
			}
		}
		leave()
		feed.CloseWithError(context.Canceled)
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the client: %v", err)
		}
		synctest.Wait()
		r.idle()
		for i, n := range nodes {
			if n.running.Load() != 0 || r.has(i, digest) {
				t.Errorf("n%d goes on, or keeps it", i)
			}
		}
		if lines := log.take(); len(lines) != 1 || lines[0]["outcome"] != string(ClientCanceled) || lines[0]["nodes"] != "[n0 n1 n2]" {
			t.Errorf("audited %v", lines)
		}
	})
}

func TestBlob_EqualUploadsAtOnceAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*taker{newTaker(t, simnode.Options{WriteRate: 100_000}), newTaker(t, simnode.Options{WriteRate: 100_000})}
		r := takingRig(t, ManageConfig{}, nodes...)
		content, digest := ggufOf(200_000)
		statuses := make(chan int)
		for range 3 {
			go func() { status, _, _ := r.asks("POST", blobAt(digest), content); statuses <- status }() // ends with the answer
			synctest.Wait()
		}
		var created, had int
		for range 3 {
			switch status := <-statuses; status {
			case http.StatusCreated:
				created++
			case http.StatusOK:
				had++
			default:
				t.Errorf("status %d", status)
			}
		}
		if created != 1 || had != 2 || nodes[0].begun.Load() != 1 || nodes[1].begun.Load() != 1 {
			t.Errorf("%d created, %d there; sent %d and %d times", created, had, nodes[0].begun.Load(), nodes[1].begun.Load())
		}
		synctest.Wait()
		r.idle()
	})
}

func TestBlob_IsNotWaitedForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newTaker(t, simnode.Options{})
		r := takingRig(t, ManageConfig{}, node)
		_, digest := ggufOf(1000)
		conn, err := r.front.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		began := time.Now()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nGGUF", blobAt(digest))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(began); resp.StatusCode != http.StatusRequestTimeout || took > 2*manage.DefaultUploadStall || !resp.Close {
			t.Errorf("%d after %s, to be closed %t", resp.StatusCode, took, resp.Close)
		}
		synctest.Wait()
		if node.running.Load() != 0 || r.has(0, digest) {
			t.Error("the node goes on, or keeps it")
		}
		r.idle()
	})
}

// A body that nobody needs is not asked for (Expect: 100-continue), nor one that is refused.
func TestBlob_IsAskedForOnlyIfANodeLacksIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := takingRig(t, ManageConfig{}, newTaker(t, simnode.Options{}), newTaker(t, simnode.Options{}))
		content, digest := ggufOf(1000)
		post := func(path string) (*bufio.Reader, func(string)) {
			conn, err := r.front.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", path, len(content))
			return bufio.NewReader(conn), func(s string) { io.WriteString(conn, s) }
		}
		answer := func(from *bufio.Reader) *http.Response {
			resp, err := http.ReadResponse(from, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return resp
		}
		from, send := post(blobAt(digest))
		if line, err := from.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q %v", line, err)
		}
		from.ReadString('\n')
		send(content)
		if resp := answer(from); resp.StatusCode != http.StatusCreated || resp.Close {
			t.Errorf("new: %d, to be closed %t", resp.StatusCode, resp.Close)
		}
		for path, want := range map[string]int{blobAt(digest): 200, blobAt("nope"): 400} {
			from, _ = post(path)
			if resp := answer(from); resp.StatusCode != want || !resp.Close {
				t.Errorf("%s: %d, to be closed %t; want %d", path, resp.StatusCode, resp.Close, want)
			}
		}
	})
}
