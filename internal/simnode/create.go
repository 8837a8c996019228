package simnode

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

func (n *Node) create(w http.ResponseWriter, r *http.Request) {
	var req api.CreateRequest
	if !bind(w, r, &req) {
		return
	}
	if err := checkFiles(&req); err != nil {
		sendError(w, http.StatusBadRequest, err.Error())
		return
	}
	asked := req.Model
	orString(&asked, req.Name)
	name, err := parseName(asked)
	if err != nil {
		sendError(w, http.StatusBadRequest, err.Error())
		return
	}
	p := n.newProgress(w, req.Stream)
	p.end(n.createModel(r.Context(), name, &req, p))
}

func checkFiles(req *api.CreateRequest) error {
	for name, digest := range req.Files {
		switch {
		case !fs.ValidPath(name):
			return errors.New("file path must be relative")
		case digest == "":
			return errDigestFormat
		}
	}
	for _, digest := range req.Adapters {
		if digest == "" {
			return errDigestFormat
		}
	}
	return nil
}

// mistake is an error of a request that has begun to be answered as a stream, perhaps.
func mistake(text string) error { return &statusError{http.StatusBadRequest, text} }

// createModel makes a model from another one or from files. It does not convert or quantize anything, and looks no
// further into a file than whether it begins as GGUF does; of one that is no stand-in it knows nothing and makes a
// model of the defaults.
func (n *Node) createModel(ctx context.Context, as name, req *api.CreateRequest, p *progress) error {
	var c recipe
	var err error
	switch {
	case req.From != "":
		err = n.baseOn(ctx, req.From, &c, p)
	case req.Files != nil:
		err = n.useFiles(req.Files, &c, p)
	default:
		err = mistake("neither 'from' or 'files' was specified")
	}
	if err == nil && req.Adapters != nil {
		err = n.useAdapter(req.Adapters, &c, p)
	}
	if err == nil {
		err = n.refine(req, &c)
	}
	if err != nil {
		return err
	}
	file := configFile(c.config, c.layers)
	n.mu.Lock()
	_, err = n.addLocked(file)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	for _, status := range c.statuses {
		p.say(status)
	}
	p.say("writing manifest")
	if _, err := n.instal(as, jsonLine(newManifest(file, c.layers))); err != nil {
		return err
	}
	p.say("success")
	return nil
}

// baseOn takes the layers of another model, which is pulled when it is not there.
func (n *Node) baseOn(ctx context.Context, from string, c *recipe, p *progress) error {
	local, hosted := splitSource(from)
	name, err := parseName(local)
	if err != nil {
		return mistake(err.Error())
	}
	if hosted {
		return &statusError{http.StatusNotImplemented, "the simulated node makes no models of hosted ones"}
	}
	base, err := n.find(ctx, local)
	if err != nil {
		if err := n.pullModel(ctx, name, false, p); err != nil {
			return err
		}
		if base, err = n.find(ctx, local); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	file, err := n.openLocked(base.manifest.Config)
	if err == nil {
		err = readJSON(file, &c.config)
	}
	if err != nil {
		return err
	}
	for _, l := range base.manifest.Layers {
		if _, err := n.openLocked(l); err != nil {
			return err
		}
		l.From = base.name.short()
		c.add(l, "using existing layer")
	}
	return nil
}

// useFiles takes files that were sent, or that models consist of, as weights.
func (n *Node) useFiles(files map[string]string, c *recipe, p *progress) error {
	if err := n.checkGGUF(files); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := n.gguf(files[name], p)
		if err != nil {
			return err
		}
		l := layerOf(f, mediaModel)
		l.From = n.blobPath(f.Digest)
		c.add(l, "using existing layer")
		m := traitsOf(f).withDefaults(now())
		c.config.ModelFamily, c.config.ModelType, c.config.FileType = m.Family, m.ParameterSize, m.Quantization
		c.config.ModelFamilies = append(c.config.ModelFamilies, m.Family)
	}
	return nil
}

// useAdapter takes a file as adapter.
func (n *Node) useAdapter(files map[string]string, c *recipe, p *progress) error {
	if err := n.checkGGUF(files); err != nil {
		return err
	}
	if len(files) > 1 {
		return mistake("only one adapter is currently supported")
	}
	for _, digest := range files {
		f, err := n.gguf(digest, p)
		if err != nil {
			return mistake(err.Error())
		}
		l := layerOf(f, mediaAdapter)
		l.From = n.blobPath(f.Digest)
		c.add(l, "using existing layer")
	}
	return nil
}

// checkGGUF refuses files that cannot be GGUF: by their names, or by how they begin if the names do not tell.
func (n *Node) checkGGUF(files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch {
		case strings.HasSuffix(name, ".safetensors"):
			return &statusError{http.StatusNotImplemented, "the simulated node converts no safetensors"}
		case strings.HasSuffix(name, ".gguf"):
			return nil
		}
		if f, err := n.open(files[name]); err == nil && isGGUF(f) {
			return nil
		}
	}
	return mistake("unknown type")
}

func (n *Node) open(digest string) (blob.File, error) {
	hex, ok := splitDigest(digest)
	if !ok {
		return blob.File{}, errDigestFormat
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.openLocked(layer{Digest: hex})
}

func isGGUF(f blob.File) bool { return bytes.HasPrefix(f.Head, []byte("GGUF")) }

func (n *Node) gguf(digest string, p *progress) (blob.File, error) {
	p.say("parsing GGUF")
	f, err := n.open(digest)
	if err == nil && !isGGUF(f) {
		err = mistake("supplied file was not in GGUF format")
	}
	return f, err
}
