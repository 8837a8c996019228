package simnode

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// A recipe is a model in the making.
type recipe struct {
	config   config
	layers   []layer
	statuses []string // of the layers
}

func (c *recipe) add(l layer, status string) {
	c.layers = append(c.layers, l)
	c.statuses = append(c.statuses, status+" "+l.Digest)
}

// remove takes out the layers of a kind.
func (c *recipe) remove(mediaType string) {
	for i := len(c.layers) - 1; i >= 0; i-- {
		if c.layers[i].MediaType == mediaType {
			c.layers, c.statuses = slices.Delete(c.layers, i, i+1), slices.Delete(c.statuses, i, i+1)
		}
	}
}

// refine adds what the request says besides the weights.
func (n *Node) refine(req *api.CreateRequest, c *recipe) error {
	quantize := req.Quantize
	orString(&quantize, req.Quantization)
	switch {
	case quantize == "" || strings.EqualFold(quantize, c.config.FileType):
	case slices.Contains([]string{"F16", "BF16", "F32"}, c.config.FileType):
		return &statusError{http.StatusNotImplemented, "the simulated node quantizes nothing"}
	default:
		return errors.New("quantization is only supported for F16, BF16 and F32 models")
	}
	if req.Template != "" {
		if _, err := parsePrompt(req.Template); err != nil {
			return mistake("template error: " + err.Error())
		}
		if err := n.replace(c, mediaTemplate, []byte(req.Template)); err != nil {
			return err
		}
	}
	if req.System != "" {
		if err := n.replace(c, mediaSystem, []byte(req.System)); err != nil {
			return err
		}
	}
	licenses, err := licensesOf(req.License)
	if err != nil {
		return err
	}
	for _, l := range licenses {
		if err := n.append(c, mediaLicense, []byte(l)); err != nil {
			return err
		}
	}
	if err := n.setParameters(c, req.Parameters); err != nil {
		return err
	}
	if len(req.Messages) > 0 {
		return n.replace(c, mediaMessages, jsonLine(req.Messages))
	}
	return nil
}

// licensesOf reads one license or several.
func licensesOf(v any) (out []string, err error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		if v == "" {
			return nil, nil
		}
		return []string{v}, nil
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

// setParameters adds those of the request to those of the model that it is made from.
func (n *Node) setParameters(c *recipe, added map[string]any) error {
	all := make(map[string]any)
	for _, l := range c.layers {
		if l.MediaType != mediaParams {
			continue
		}
		f, err := n.open(l.Digest)
		if err == nil {
			err = readJSON(f, &all)
		}
		if err != nil {
			return err
		}
	}
	maps.Copy(all, added)
	if len(all) == 0 {
		return nil
	}
	return n.replace(c, mediaParams, jsonLine(all))
}

func (n *Node) replace(c *recipe, mediaType string, content []byte) error {
	c.remove(mediaType)
	return n.append(c, mediaType, content)
}

// append stores a file and makes it a layer.
func (n *Node) append(c *recipe, mediaType string, content []byte) error {
	f := blob.FromBytes(content)
	n.mu.Lock()
	isNew, err := n.addLocked(f)
	n.mu.Unlock()
	if err != nil {
		return err // a real server's words, too
	}
	status := "using existing layer"
	if isNew {
		status = "creating new layer"
	}
	c.add(layerOf(f, mediaType), status)
	return nil
}
