package simnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
)

// A remote is a registry as one pull or push of a model talks to it.
type remote struct {
	node   *Node
	model  name
	scheme string
}

// remoteOf is the registry in a model's name. An insecure one is spoken to without TLS.
func (n *Node) remoteOf(model name, insecure bool) remote {
	r := remote{n, model, "https"}
	if insecure {
		r.scheme = "http"
	}
	return r
}

// url is an address below the model's.
func (r remote) url(path string) string {
	u := url.URL{Scheme: r.scheme, Host: r.model.host, Path: "/v2/" + r.model.namespace + "/" + r.model.model + "/" + path}
	return u.String()
}

// A remoteRequest is one request to a registry; only the method and the address are required.
type remoteRequest struct {
	method, url string
	header      map[string]string
	body        io.Reader
	length      int64 // of the body
}

var errUnauthorized = errors.New("unauthorized: access denied")

// do sends a request. Its errors read like a real server's; what a registry does not know is fs.ErrNotExist.
func (r remote) do(ctx context.Context, q remoteRequest) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, q.body)
	if err != nil {
		return nil, err
	}
	if q.body != nil {
		req.ContentLength = q.length
	}
	for key, value := range q.header {
		req.Header.Set(key, value)
	}
	req.Header.Set("User-Agent", fmt.Sprintf("ollama/%s (%s %s) Go/%s", r.node.opts.Version, runtime.GOARCH, runtime.GOOS, runtime.Version()))
	resp, err := r.node.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, fs.ErrNotExist
	case http.StatusUnauthorized: // a real server would ask for a token
		return nil, errUnauthorized
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteError))
	if err != nil {
		return nil, fmt.Errorf("%d: %w", resp.StatusCode, err)
	}
	return nil, fmt.Errorf("%d: %s", resp.StatusCode, text)
}

const (
	maxRemoteError    = 64 << 10
	maxRemoteManifest = 4 << 20
)

// manifest reads the model's manifest.
func (r remote) manifest(ctx context.Context) ([]byte, error) {
	resp, err := r.do(ctx, remoteRequest{
		method: http.MethodGet, url: r.url("manifests/" + r.model.tag), header: map[string]string{"Accept": mediaManifest},
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteManifest+1))
	if err == nil && len(raw) > maxRemoteManifest {
		err = fmt.Errorf("the simulated node reads no manifest of more than %d bytes", maxRemoteManifest)
	}
	return raw, err
}

// size asks how long a blob is.
func (r remote) size(ctx context.Context, digest string) (int64, error) {
	resp, err := r.do(ctx, remoteRequest{method: http.MethodHead, url: r.url("blobs/" + digest)})
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return max(0, resp.ContentLength), nil
}

// blob reads a blob from an offset that lies within it.
func (r remote) blob(ctx context.Context, digest string, from, size int64) (io.ReadCloser, error) {
	span := "bytes=" + strconv.FormatInt(from, 10) + "-" + strconv.FormatInt(size-1, 10)
	resp, err := r.do(ctx, remoteRequest{
		method: http.MethodGet, url: r.url("blobs/" + digest), header: map[string]string{"Range": span},
	})
	switch {
	case err != nil:
		return nil, err
	case from > 0 && resp.StatusCode != http.StatusPartialContent:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%d: the registry serves no parts of a blob", resp.StatusCode)
	}
	return resp.Body, nil
}

// ownTransport reaches registries when Options.Registry does not. The one that names without a host stand for is not
// called: nobody shall load gigabytes of real weights to have them thrown away.
type ownTransport struct{ *http.Transport }

func newOwnTransport() ownTransport {
	return ownTransport{&http.Transport{Proxy: http.ProxyFromEnvironment, DisableCompression: true}}
}

// RoundTrip sends a request.
func (t ownTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == defaultHost {
		return nil, errors.New("the simulated node does not call " + defaultHost)
	}
	return t.Transport.RoundTrip(r)
}
