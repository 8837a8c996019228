package manage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

func TestUpload_EqualUploadsAtOnceAreOne(t *testing.T) {
	nodes, blobs := startNodes(t, nil, nil)
	body, digest := blob(1000)
	uploads := NewUploads(UploadOptions{})
	r, w := io.Pipe()
	type result struct {
		created bool
		err     error
	}
	results := make(chan result, 4)
	upload := func(nodes []Node, body io.Reader) {
		_, created, err := uploads.Upload(t.Context(), nodes, digest, 1000, body)
		results <- result{created, err}
	}
	go upload(nodes, r)
	w.Write(body[:1]) // the first is under way
	for range 3 {
		go upload([]Node{nodes[1], nodes[0]}, untouched{t})
	}
	w.Write(body[1:])
	created := 0
	for range 4 {
		got := <-results
		if got.err != nil {
			t.Error(got.err)
		}
		if got.created {
			created++
		}
	}
	if created != 1 || blobs[0].posts.Load() != 1 || blobs[1].posts.Load() != 1 {
		t.Errorf("%d created; sent to a %d times, to b %d times", created, blobs[0].posts.Load(), blobs[1].posts.Load())
	}
}

func TestUpload_WhenTheFirstFailsAnEqualOneTakesOver(t *testing.T) {
	nodes, blobs := startNodes(t, nil, nil)
	body, digest := blob(1000)
	uploads := NewUploads(UploadOptions{})
	r, w := io.Pipe()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { // ends with the upload
		_, _, err := uploads.Upload(t.Context(), nodes, digest, 1000, r)
		first <- err
	}()
	w.Write(body[:500])
	go func() { // ends with the upload
		_, created, err := uploads.Upload(t.Context(), nodes, digest, 1000, bytes.NewReader(body))
		if !created {
			t.Error("the second has not created it")
		}
		second <- err
	}()
	left := errors.New("left")
	w.CloseWithError(left)
	if err := <-first; !errors.Is(err, left) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; err != nil || !blobs[0].has(digest) || !blobs[1].has(digest) {
		t.Errorf("the second: %v", err)
	}
}

func TestUpload_NoMoreAtOnceThanTheLimit(t *testing.T) {
	gate := make(chan struct{})
	nodes, blobs := startNodes(t, nil)
	blobs[0].post = gated(gate, blobs[0].keep)
	uploads := NewUploads(UploadOptions{Limit: 2})
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() { // ends with the upload
			body, digest := blob(100 + i)
			if _, _, err := uploads.Upload(t.Context(), nodes, digest, int64(len(body)), bytes.NewReader(body)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "two run", func() bool { return blobs[0].running.Load() == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, digest := blob(99)
	if _, _, err := uploads.Upload(ctx, nodes, digest, 99, untouched{t}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}
	if n := blobs[0].posts.Load(); n != 2 {
		t.Errorf("%d were begun", n)
	}
	close(gate)
	all.Wait()
}
