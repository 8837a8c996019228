package manage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// A gateway whose client stops in the middle of a blob, or which itself has to end.
func TestClientBody_NoReadIsEndless(t *testing.T) {
	ended := errors.New("ended")
	for name, c := range map[string]struct {
		stall time.Duration
		end   bool
		want  error
	}{
		"the client sends no more": {200 * time.Millisecond, false, os.ErrDeadlineExceeded},
		"the context ends":         {time.Minute, true, ended},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, blobs := startNodes(t, nil, nil)
			_, digest := blob(100)
			result := make(chan error, 1)
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancelCause(r.Context())
				defer cancel(nil)
				if c.end {
					go func() { // ends with the request
						for blobs[0].running.Load() == 0 && ctx.Err() == nil {
							time.Sleep(5 * time.Millisecond) // until the blob is on its way
						}
						cancel(ended)
					}()
				}
				body, done := ClientBody(ctx, w, r, c.stall)
				defer done()
				_, _, err := NewUploads(UploadOptions{}).Upload(ctx, nodes, digest, r.ContentLength, body)
				result <- err
			}))
			defer gateway.Close()
			pipe, feed := io.Pipe()
			defer feed.Close()
			go feed.Write(make([]byte, 50)) // ends with the pipe
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway.URL, pipe)
			r.ContentLength = 100
			client := &http.Transport{}
			defer client.CloseIdleConnections()
			if resp, err := client.RoundTrip(r); err == nil {
				resp.Body.Close()
			}
			if err := <-result; !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			for _, n := range blobs {
				eventually(t, n.name+" hears the end", func() bool { return n.running.Load() == 0 })
			}
		})
	}
}

// The limit is not for what comes on the connection after the blob.
func TestClientBody_TheConnectionIsGoodAfterwards(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, done := ClientBody(r.Context(), w, r, 200*time.Millisecond)
		n, err := io.Copy(io.Discard, body)
		done()
		if n != 5 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		select {
		case <-r.Context().Done():
			t.Error("the limit has ended the request")
		case <-time.After(400 * time.Millisecond):
		}
	}))
	defer gateway.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 2 {
		resp, err := client.Post(gateway.URL, "", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// While nobody reads, the limit does not run: over HTTP/2 it would end the body for good.
func TestClientBody_ASlowNodeIsNoSlowClient(t *testing.T) {
	const stall = 500 * time.Millisecond
	waited := make(chan struct{})
	gateway := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, done := ClientBody(r.Context(), w, r, stall)
		defer done()
		first := make([]byte, 1)
		_, err := io.ReadFull(body, first)
		time.Sleep(2 * stall) // a node that takes its time
		close(waited)
		rest, restErr := io.ReadAll(body)
		if r.ProtoMajor != 2 || err != nil || restErr != nil || string(rest) != "ello" {
			t.Errorf("HTTP/%d: %v, %q, %v", r.ProtoMajor, err, rest, restErr)
		}
	}))
	gateway.EnableHTTP2 = true
	gateway.StartTLS()
	defer gateway.Close()
	blob, feed := io.Pipe()
	go func() { // ends with the request
		io.WriteString(feed, "h")
		<-waited
		io.WriteString(feed, "ello")
		feed.Close()
	}()
	resp, err := gateway.Client().Post(gateway.URL, "", blob)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
