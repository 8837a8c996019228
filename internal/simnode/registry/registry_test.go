package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var digest = strings.Repeat("0123456789abcdef", 4)

const size = 300_000

// stored is a registry with one large file.
func stored(t *testing.T, opts Options) *Registry {
	t.Helper()
	r := New(opts)
	if err := r.Put("library/tiny", "latest", []byte(`{"layers":[]}`), blob.StandIn(digest, size, nil)); err != nil {
		t.Fatal(err)
	}
	return r
}

// ask sends one request straight to the handler; an answer that was cut has the code 0.
func ask(r *Registry, method, url, body string, header ...string) (w *httptest.ResponseRecorder) {
	q := httptest.NewRequest(method, "http://registry"+url, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	w = httptest.NewRecorder()
	defer func() {
		if p := recover(); p != nil {
			w.Code = 0
		}
	}()
	r.ServeHTTP(w, q)
	return w
}

const blobURL = "/v2/library/tiny/blobs/sha256:"

func TestManifest_ByNameAndTagWithoutCase(t *testing.T) {
	r := stored(t, Options{})
	for url, status := range map[string]int{
		"/v2/":                              200,
		"/v2/library/tiny/manifests/latest": 200,
		"/v2/Library/TINY/manifests/Latest": 200,
		"/v2/library/tiny/manifests/other":  404,
		"/v2/me/tiny/manifests/latest":      404,
		"/v2/tiny/manifests/latest":         404,
		"/elsewhere":                        404,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if got := ask(r, method, url, ""); got.Code != status {
				t.Errorf("%s %s: %d, want %d", method, url, got.Code, status)
			}
		}
	}
	got := ask(r, "GET", "/v2/library/tiny/manifests/latest", "")
	if got.Body.String() != `{"layers":[]}` || got.Header().Get("Content-Type") != manifestType {
		t.Errorf("got %s of %s", got.Body, got.Header().Get("Content-Type"))
	}
}

func TestBlob_WholeAndInParts(t *testing.T) {
	r := stored(t, Options{})
	whole := ask(r, "GET", blobURL+digest, "").Body.Bytes()
	if len(whole) != size || !bytes.HasPrefix(whole, []byte("GGUF")) {
		t.Fatalf("got %d bytes", len(whole))
	}
	head := ask(r, "HEAD", blobURL+digest, "")
	if head.Code != 200 || head.Header().Get("Content-Length") != fmt.Sprint(size) || head.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %v", head.Code, head.Header())
	}
	part := ask(r, "GET", blobURL+digest, "", "Range", "bytes=70000-299999")
	if part.Code != http.StatusPartialContent || !bytes.Equal(part.Body.Bytes(), whole[70_000:]) {
		t.Errorf("part: %d, %d bytes", part.Code, part.Body.Len())
	}
	for url, status := range map[string]int{blobURL + strings.Repeat("0", 64): 404, blobURL + "xyz": 400} {
		if got := ask(r, "GET", url, ""); got.Code != status {
			t.Errorf("%s: %d, want %d", url, got.Code, status)
		}
	}
}

func TestBlob_BreaksOffAtTheOffset(t *testing.T) {
	r := stored(t, Options{})
	for _, at := range []int64{0, 1, 100_001} {
		r.Break(digest, at, 1)
		if got := ask(r, "GET", blobURL+digest, ""); got.Code != 0 || int64(got.Body.Len()) != at {
			t.Errorf("at %d: code %d, %d bytes came", at, got.Code, got.Body.Len())
		}
		if got := ask(r, "GET", blobURL+digest, ""); got.Body.Len() != size {
			t.Errorf("healed: %d bytes came", got.Body.Len())
		}
	}
	r.Break(digest, 1000, -1)
	for range 3 {
		if got := ask(r, "GET", blobURL+digest, ""); got.Body.Len() != 1000 {
			t.Errorf("for ever: %d bytes came", got.Body.Len())
		}
	}
	r.Break(digest, 0, 0)
	r.Spoil(digest, 5000, 1)
	bad, good := ask(r, "GET", blobURL+digest, "").Body.Bytes(), ask(r, "GET", blobURL+digest, "").Body.Bytes()
	if len(bad) != size || bytes.Equal(bad, good) || bad[5000] == good[5000] {
		t.Error("nothing is spoilt")
	}
	bad[5000] = good[5000]
	if !bytes.Equal(bad, good) {
		t.Error("more than a byte is spoilt")
	}
}

func TestBlob_GoesAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := stored(t, Options{Rate: 100_000})
		begun := time.Now()
		if got := ask(r, "GET", blobURL+digest, ""); got.Body.Len() != size {
			t.Errorf("%d bytes came", got.Body.Len())
		}
		if took := time.Since(begun).Round(10 * time.Millisecond); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// send sends content in pieces and returns the status of the end.
func send(t *testing.T, r *Registry, digest string, pieces ...string) int {
	t.Helper()
	begin := ask(r, "POST", "/v2/me/mine/blobs/uploads/", "")
	where := strings.TrimPrefix(begin.Header().Get("Location"), "http://registry")
	if begin.Code != http.StatusAccepted || where == "" {
		t.Fatalf("POST: %d", begin.Code)
	}
	off := 0
	for _, p := range pieces {
		got := ask(r, "PATCH", where, p, "Content-Range", fmt.Sprintf("%d-%d", off, off+len(p)-1))
		if got.Code != http.StatusAccepted {
			return got.Code
		}
		off += len(p)
	}
	return ask(r, "PUT", where+"?digest=sha256:"+digest, "").Code
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestUpload_IsThereWhenItsDigestIsRight(t *testing.T) {
	r := New(Options{})
	if got := send(t, r, sha("hello blob"), "hello", " blob"); got != http.StatusCreated {
		t.Errorf("got %d", got)
	}
	if got := ask(r, "GET", blobURL+sha("hello blob"), ""); got.Body.String() != "hello blob" {
		t.Errorf("got %q", got.Body)
	}
	mount := ask(r, "POST", "/v2/me/other/blobs/uploads/?from=me/mine&mount=sha256:"+sha("hello blob"), "")
	if mount.Code != http.StatusCreated {
		t.Errorf("mount: %d", mount.Code)
	}
	if got := send(t, r, sha("other"), "hello"); got != http.StatusBadRequest {
		t.Errorf("wrong digest: %d", got)
	}
	long := strings.Repeat("x", blob.SmallLimit+1)
	if got := send(t, r, sha(long), long); got != http.StatusRequestEntityTooLarge {
		t.Errorf("what cannot be kept: %d", got)
	}
	if got := ask(r, "PATCH", "/v2/me/mine/blobs/upload/77", "x"); got.Code != 404 {
		t.Errorf("unknown upload: %d", got.Code)
	}
}

func TestUpload_PiecesMustFollow(t *testing.T) {
	r := New(Options{})
	where := strings.TrimPrefix(ask(r, "POST", "/v2/me/mine/blobs/uploads/", "").Header().Get("Location"), "http://registry")
	if got := ask(r, "PATCH", where, "x", "Content-Range", "5-5"); got.Code != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("got %d", got.Code)
	}
}

func TestManifest_NeedsItsBlobs(t *testing.T) {
	r := New(Options{})
	manifest := `{"config":{"digest":"sha256:` + sha("c") + `"},"layers":[{"digest":"sha256:` + sha("l") + `"}]}`
	put := func() int { return ask(r, "PUT", "/v2/me/mine/manifests/v1", manifest).Code }
	send(t, r, sha("c"), "c")
	if got := put(); got != http.StatusBadRequest {
		t.Errorf("a layer is missing: %d", got)
	}
	send(t, r, sha("l"), "l")
	if got := put(); got != http.StatusCreated {
		t.Errorf("all is there: %d", got)
	}
	if string(r.Manifest("me/mine", "v1")) != manifest {
		t.Error("the manifest is another one")
	}
	for body, status := range map[string]int{"{": 400, strings.Repeat(" ", maxManifest+1): 413} {
		if got := ask(r, "PUT", "/v2/me/mine/manifests/v2", body).Code; got != status {
			t.Errorf("%.10q: %d, want %d", body, got, status)
		}
	}
}

func TestRegistry_HoldsNoMoreThanItMay(t *testing.T) {
	r := New(Options{MaxBytes: 100_000})
	if err := r.Put("a/b", "c", nil, blob.FromBytes(make([]byte, 200_000))); !errors.Is(err, errFull) {
		t.Errorf("a file: %v", err)
	}
	if err := r.Put("a/b", "c", make([]byte, 200_000)); !errors.Is(err, errFull) {
		t.Errorf("a manifest: %v", err)
	}
	var err error
	for i := range 200 {
		err = errors.Join(err, r.Put("a/b", "c", nil, blob.StandIn(sha(fmt.Sprint(i)), 1<<40, nil)))
	}
	if !errors.Is(err, errFull) {
		t.Error("any number of files")
	}
	for range 3 * maxUploads {
		ask(r, "POST", "/v2/me/mine/blobs/uploads/", "")
	}
	if len(r.uploads) > maxUploads {
		t.Errorf("%d uploads", len(r.uploads))
	}
}

func TestStats_CountWhatWentOverTheWire(t *testing.T) {
	r := stored(t, Options{})
	ask(r, "GET", blobURL+digest, "", "Range", "bytes=100-199")
	ask(r, "HEAD", blobURL+digest, "")
	send(t, r, sha("12345"), "123", "45")
	s := r.Stats()
	if s.Bytes["GET"] != 100 || s.Bytes["PATCH"] != 5 || s.Requests["HEAD blobs"] != 1 || s.Requests["PATCH upload"] != 2 {
		t.Errorf("got %+v", s)
	}
}

func TestBlob_StalledUntilTheClientLeaves(t *testing.T) {
	r := stored(t, Options{})
	server := httptest.NewServer(r)
	defer server.Close()
	r.Stall(digest, 1000, 1)
	resp, err := http.Get(server.URL + blobURL + digest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		t.Errorf("what is before it does not come: %v", err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}
