package simnode

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// The kinds of layers, as a real server writes and reads them byte for byte: a manifest's digest hangs on that.
const (
	mediaManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaConfig   = "application/vnd.docker.container.image.v1+json"
	mediaModel    = "application/vnd.ollama.image.model"
	mediaAdapter  = "application/vnd.ollama.image.adapter"
	mediaTemplate = "application/vnd.ollama.image.template"
	mediaSystem   = "application/vnd.ollama.image.system"
	mediaLicense  = "application/vnd.ollama.image.license"
	mediaParams   = "application/vnd.ollama.image.params"
	mediaMessages = "application/vnd.ollama.image.messages"
)

// A manifest says what a model consists of.
type manifest struct {
	SchemaVersion int     `json:"schemaVersion"`
	MediaType     string  `json:"mediaType"`
	Config        layer   `json:"config"`
	Layers        []layer `json:"layers"`
}

// A layer is a file with what it is for.
type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"` // with "sha256:"
	Size      int64  `json:"size"`
	From      string `json:"from,omitempty"` // the model or the file that it was taken from, unless it was pulled
}

// A config is the file of a model's manifest that says what kind of model it is.
type config struct {
	ModelFormat   string   `json:"model_format"`
	ModelFamily   string   `json:"model_family"`
	ModelFamilies []string `json:"model_families"`
	ModelType     string   `json:"model_type"`
	FileType      string   `json:"file_type"`
	Capabilities  []string `json:"capabilities,omitempty"` // that neither the weights nor the template tell
	Architecture  string   `json:"architecture"`
	OS            string   `json:"os"`
	RootFS        rootFS   `json:"rootfs"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

func layerOf(f blob.File, mediaType string) layer {
	return layer{MediaType: mediaType, Digest: "sha256:" + f.Digest, Size: f.Size}
}

// all returns the layers and the config, in the order they are pulled and pushed in.
func (m manifest) all() []layer {
	if m.Config.Digest == "" { // a model may do without
		return m.Layers
	}
	return append(slices.Clip(m.Layers), m.Config)
}

func (m manifest) size() (size int64) {
	for _, l := range m.all() {
		size += l.Size
	}
	return size
}

// first returns the first layer of a kind, or an empty one.
func (m manifest) first(mediaType string) layer {
	for _, l := range m.Layers {
		if l.MediaType == mediaType {
			return l
		}
	}
	return layer{}
}

// hex is the digest without what it begins with.
func (l layer) hex() string { return strings.TrimPrefix(l.Digest, "sha256:") }

// jsonLine is v as a real server writes files: with a newline at the end.
func jsonLine(v any) []byte {
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(v) // what a client sent, and what is made here, always encodes
	return b.Bytes()
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// configFile makes the config of layers.
func configFile(c config, layers []layer) blob.File {
	c.ModelFormat, c.Architecture, c.OS, c.RootFS = "gguf", "amd64", "linux", rootFS{Type: "layers", DiffIDs: []string{}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.Digest)
	}
	return blob.FromBytes(jsonLine(c))
}

func newManifest(config blob.File, layers []layer) manifest {
	return manifest{SchemaVersion: 2, MediaType: mediaManifest, Config: layerOf(config, mediaConfig), Layers: layers}
}

// traits are what a model's weights tell, and how the simulated model behaves. They travel in the stand-in of the
// weights, so that a node that pulls a model simulates the same one.
type traits struct {
	Model
	Info    json.RawMessage `json:",omitempty"`
	Tensors json.RawMessage `json:",omitempty"`
}

func (m Model) traits() json.RawMessage {
	t := traits{m, m.Info, m.Tensors}
	// The rest are layers of their own, or where the model is.
	t.Name, t.Digest, t.Weights, t.Template, t.System, t.License, t.Modelfile, t.ParentModel = "", "", "", "", "", "", "", ""
	t.Parameters, t.Messages, t.Size = nil, nil, 0
	b, err := json.Marshal(t)
	if err != nil { // of an Info that is no JSON
		return nil
	}
	return b
}

// traitsOf returns the model that weights tell of; of a file that is no stand-in nothing is known.
func traitsOf(weights blob.File) Model {
	var t traits
	_ = json.Unmarshal(weights.Meta(), &t) // without meta there are no traits
	t.Model.Info, t.Model.Tensors = t.Info, t.Tensors
	return t.Model
}

// files returns the manifest of a model and its files, the weights as a stand-in. It is what a registry has of it, so
// that all nodes with the same model agree on its digest.
func (m Model) files() (manifest, []blob.File) {
	var files []blob.File
	var layers []layer
	add := func(f blob.File, mediaType string) {
		files, layers = append(files, f), append(layers, layerOf(f, mediaType))
	}
	add(blob.File{Digest: m.Weights}, mediaModel) // its size comes last
	if m.Template != "" {
		add(blob.FromBytes([]byte(m.Template)), mediaTemplate)
	}
	if m.System != "" {
		add(blob.FromBytes([]byte(m.System)), mediaSystem)
	}
	if m.License != "" {
		add(blob.FromBytes([]byte(m.License)), mediaLicense)
	}
	if len(m.Parameters) > 0 {
		add(blob.FromBytes(jsonLine(m.Parameters)), mediaParams)
	}
	if len(m.Messages) > 0 {
		add(blob.FromBytes(jsonLine(m.Messages)), mediaMessages)
	}
	c := config{ModelFamily: m.Family, ModelFamilies: []string{m.Family}, ModelType: m.ParameterSize, FileType: m.Quantization}
	for _, capability := range m.Capabilities {
		if slices.Contains([]string{Tools, Insert, Thinking}, capability) && !slices.Contains(ofTemplate(m.Template), capability) {
			c.Capabilities = append(c.Capabilities, capability)
		}
	}
	add(configFile(c, layers), mediaConfig)
	rest := m.Size
	for _, f := range files {
		rest -= f.Size
	}
	files[0] = blob.StandIn(m.Weights, max(rest, smallestWeights), m.traits())
	layers[0] = layerOf(files[0], mediaModel)
	return newManifest(files[len(files)-1], layers[:len(layers)-1]), files
}

// smallestWeights is the size of the weights of a model that is smaller than its other layers: they still say what they
// stand for.
const smallestWeights = 256

// ofTemplate are the capabilities that a template tells.
func ofTemplate(template string) (out []string) {
	for word, capability := range map[string]string{".Tools": Tools, ".Suffix": Insert, ".Thinking": Thinking} {
		if strings.Contains(template, word) {
			out = append(out, capability)
		}
	}
	slices.SortFunc(out, func(a, b string) int { // in a real server's order
		order := []string{Tools, Insert, Thinking}
		return slices.Index(order, a) - slices.Index(order, b)
	})
	return out
}

// Publish puts a model into a registry, under the namespace, the model and the tag of its name: nodes that reach the
// registry can pull it, and those that were given the same Model agree on its digest. Its weights are a stand-in of its
// size, which takes no memory.
func Publish(r *registry.Registry, m Model) error {
	name, err := parseName(m.Name)
	if err != nil {
		return fmt.Errorf("publish %q: %w", m.Name, err)
	}
	manifest, files := m.withDefaults(now()).files()
	if err := r.Put(name.namespace+"/"+name.model, name.tag, jsonLine(manifest), files...); err != nil {
		return fmt.Errorf("publish %q: %w", m.Name, err)
	}
	return nil
}

// assembleLocked makes the model that a manifest tells of, from files that the node has.
func (n *Node) assembleLocked(as name, raw []byte) (*installed, error) {
	var mf manifest
	if err := json.Unmarshal(raw, &mf); err != nil {
		return nil, err
	}
	var c config
	if mf.Config.Digest != "" {
		f, err := n.openLocked(mf.Config)
		if err == nil {
			err = readJSON(f, &c)
		}
		if err != nil {
			return nil, err
		}
	}
	weights, err := n.openLocked(mf.first(mediaModel))
	if err != nil {
		return nil, err
	}
	m := traitsOf(weights)
	m.Name, m.Digest, m.Weights, m.Size = as.short(), hexSum(raw), mf.first(mediaModel).hex(), mf.size()
	m.Family, m.ParameterSize, m.Quantization = c.ModelFamily, c.ModelType, c.FileType
	m.Template = "{{ .Prompt }}" // of a model without one
	for _, l := range mf.Layers {
		if err := n.readLocked(&m, l); err != nil {
			return nil, err
		}
	}
	m.Capabilities = capabilitiesOf(m, c)
	m.ModifiedAt = now()
	i := install(m.withDefaults(now()), as, mf)
	i.ParentModel = mf.first(mediaModel).From
	return i, nil
}

// readLocked takes in what a layer says of a model.
func (n *Node) readLocked(m *Model, l layer) error {
	f, err := n.openLocked(l)
	if err != nil {
		return err
	}
	switch l.MediaType {
	case mediaParams:
		return readJSON(f, &m.Parameters)
	case mediaMessages:
		return readJSON(f, &m.Messages)
	case mediaTemplate, mediaSystem, mediaLicense:
	default:
		return nil
	}
	text, err := wholeOf(f)
	switch {
	case l.MediaType == mediaTemplate:
		m.Template = string(text)
	case l.MediaType == mediaSystem:
		m.System = string(text)
	case m.License != "":
		m.License += "\n" + string(text)
	default:
		m.License = string(text)
	}
	return err
}

// capabilitiesOf is what a model can do: by its weights, its config and its template, in a real server's order.
func capabilitiesOf(m Model, c config) []string {
	var out []string
	add := func(list []string) {
		for _, capability := range list {
			if !slices.Contains(out, capability) {
				out = append(out, capability)
			}
		}
	}
	for _, capability := range m.Capabilities {
		if !slices.Contains([]string{Tools, Insert, Thinking}, capability) {
			add([]string{capability})
		}
	}
	if len(out) == 0 {
		add([]string{Completion})
	}
	add(c.Capabilities)
	add(ofTemplate(m.Template))
	return out
}

// openLocked finds the file of a layer. Its error is that of a real server which opens it.
func (n *Node) openLocked(l layer) (blob.File, error) {
	f, ok := n.files[l.hex()]
	if !ok {
		return f, &fs.PathError{Op: "open", Path: n.blobPath(l.hex()), Err: syscall.ENOENT}
	}
	return f, nil
}

func wholeOf(f blob.File) ([]byte, error) {
	b, ok := f.Whole()
	if !ok {
		return nil, fmt.Errorf("the simulated node keeps no file of %d bytes", f.Size)
	}
	return b, nil
}

func readJSON(f blob.File, v any) error {
	b, err := wholeOf(f)
	if err != nil {
		return err
	}
	return json.NewDecoder(bytes.NewReader(b)).Decode(v)
}
