package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
)

// A ManageRequest is a request that changes which models nodes have, as the parser read it.
type ManageRequest struct {
	Model  ModelName // what is changed; of a copy the source
	Target ModelName // the destination of a copy
	From   ModelName // of a create: the model it begins with, the zero value if with files
	Blobs  []string  // of a create: the digests of its files and adapters, as sha256:<64 hex>

	// Stream tells whether the client wants a record for each step.
	Stream bool

	// Body is what a node gets: the fields it knows, each once, names without a scheme, and a
	// stream asked for where there is one.
	Body []byte
}

// manageForms are the bodies of the routes that change models, by path.
var manageForms = map[string]*manageForm{
	"/api/pull":   {schema: schemaOf[api.PullRequest](), judge: judgePull, streams: true},
	"/api/push":   {schema: schemaOf[api.PushRequest](), judge: judgePush, streams: true},
	"/api/create": {schema: schemaOf[api.CreateRequest](), judge: judgeCreate, streams: true},
	"/api/copy":   {schema: schemaOf[api.CopyRequest](), judge: judgeCopy},
	"/api/delete": {schema: schemaOf[api.DeleteRequest](), judge: judgeDelete},
}

// A manageForm is what the parser knows of such a body. judge gives the fields that a node gets in
// other words than the client's; an empty one is left out.
type manageForm struct {
	schema  *schema
	judge   func(*reading, *ManageRequest) (changed map[string]string, err error)
	streams bool
}

// ParseManage reads the body of a request to change models as strictly as Parse does, and refuses
// what makes a node leave its registry's TLS, ask another server, or die. The error is a
// *BadRequest, except for a route that is none of these, which is a mistake of the caller.
func ParseManage(route Route, body []byte) (*ManageRequest, error) {
	f, ok := manageForms[route.Path]
	if !ok {
		return nil, fmt.Errorf("wire: no management on %s", route.Path)
	}
	r, err := (&form{schema: f.schema}).read(route.Dialect, body)
	if err != nil {
		return nil, err
	}
	m := &ManageRequest{Stream: f.streams && !isFalse(r.raw("stream"))}
	changed, err := f.judge(r, m)
	if err != nil {
		return nil, err
	}
	if f.streams {
		changed["stream"] = "true"
	}
	m.Body = r.known(changed)
	return m, nil
}

// MarshalModel is the body of a request that says no more than which model is meant. The error is a
// *BadRequest where s is no text.
func MarshalModel(s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, late(http.StatusBadRequest, ReasonBadModelName, "invalid model name")
	}
	return json.Marshal(map[string]string{"model": s})
}

// known is an object of the fields of the schema, less those that changed has as "".
func (r *reading) known(changed map[string]string) []byte {
	b := []byte{'{'}
	for i, f := range r.top.fields {
		text, other := changed[f.name]
		if !other && r.raw(f.name) != nil {
			s := r.values[i]
			var within []patch
			for _, p := range r.patches {
				if s.from <= p.from && p.to <= s.to {
					within = append(within, p)
				}
			}
			text = string(assemble(r.body, s.from, s.to, within, r.clean).Bytes())
		}
		if text == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), f.name...), `":`...)
		b = append(b, text...)
	}
	return append(b, '}')
}

func judgePull(r *reading, m *ManageRequest) (map[string]string, error) {
	return judgeTransfer(r, m, "invalid model name")
}

func judgePush(r *reading, m *ManageRequest) (map[string]string, error) {
	return judgeTransfer(r, m, modelRequired)
}

// judgeTransfer is for what goes over the network of a node.
func judgeTransfer(r *reading, m *ManageRequest, none string) (map[string]string, error) {
	if isTrue(r.raw("insecure")) {
		return nil, late(http.StatusBadRequest, ReasonOutOfRange,
			"insecure is not allowed: through this gateway models come from registries with TLS only; leave the field out")
	}
	if r.named("model") == "" {
		return nil, late(http.StatusBadRequest, ReasonNoModel, none)
	}
	sent, err := readManaged(r.named("model"), &m.Model, "invalid model name")
	return map[string]string{"model": sent, "name": "", "insecure": "", "username": "", "password": ""}, err
}

func judgeDelete(r *reading, m *ManageRequest) (map[string]string, error) {
	spelling := r.named("model")
	if strings.TrimSpace(spelling) == "" {
		return nil, late(http.StatusBadRequest, ReasonNoModel, modelRequired)
	}
	name, sent, err := managedName(spelling)
	if err != nil {
		return nil, late(http.StatusBadRequest, ReasonBadModelName, fmt.Sprintf("name %q is invalid", spelling))
	}
	m.Model = name // also one of the hosted service: its stub lies on the node
	return map[string]string{"model": sent, "name": ""}, nil
}

func judgeCopy(r *reading, m *ManageRequest) (map[string]string, error) {
	source, err := readManaged(r.string("source"), &m.Model, fmt.Sprintf("source %q is invalid", r.string("source")))
	if err != nil {
		return nil, err
	}
	target, err := readManaged(r.string("destination"), &m.Target, fmt.Sprintf("destination %q is invalid", r.string("destination")))
	return map[string]string{"source": source, "destination": target}, err
}

func judgeCreate(r *reading, m *ManageRequest) (map[string]string, error) {
	if !r.isEmpty("remote_host") {
		return nil, late(http.StatusBadRequest, ReasonOutOfRange,
			"remote_host is not allowed: prompts to such a model would go to another server; leave the field out")
	}
	if err := r.checkInfo(); err != nil {
		return nil, err
	}
	var err error
	if m.Blobs, err = r.blobs(); err != nil {
		return nil, err
	}
	sent, err := readManaged(r.named("model"), &m.Model, "invalid model name")
	if err != nil {
		return nil, err
	}
	changed := map[string]string{"model": sent, "name": "", "remote_host": ""}
	if !r.isEmpty("from") {
		changed["from"], err = readManaged(r.string("from"), &m.From, "invalid model name")
	}
	return changed, err
}

// named is the text of a field, or that of name where it is empty.
func (r *reading) named(field string) string {
	if s := r.string(field); s != "" {
		return s
	}
	return r.string("name")
}

// digestForm is what a node takes for a digest.
var digestForm = regexp.MustCompile(`^sha256[:-][0-9a-fA-F]{64}$`)

// ParseDigest reads the digest of a blob as a node does and gives it as sha256:<64 hex>, in lower
// case. The error is a *BadRequest.
func ParseDigest(s string) (string, error) {
	if !digestForm.MatchString(s) {
		return "", late(http.StatusBadRequest, ReasonOutOfRange, "invalid digest format")
	}
	return "sha256:" + strings.ToLower(s[len("sha256:"):]), nil
}

// blobs are what files and adapters name. The paths are judged as a node judges those of files.
func (r *reading) blobs() (digests []string, err error) {
	for _, field := range []string{"files", "adapters"} {
		var files map[string]string
		if raw := r.raw(field); raw != nil && json.Unmarshal(raw, &files) != nil {
			return nil, ambiguous()
		}
		for path, digest := range files {
			if !fs.ValidPath(path) {
				return nil, late(http.StatusBadRequest, ReasonOutOfRange, "file path must be relative")
			}
			if digest, err = ParseDigest(digest); err != nil {
				return nil, err
			}
			digests = append(digests, digest)
		}
	}
	return digests, nil
}

// checkInfo refuses what takes the whole server of a node down: it takes these members for what
// they should be without looking (ollama 0.24.0, server/create.go).
func (r *reading) checkInfo() error {
	var info map[string]any
	raw := r.raw("info")
	if raw == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if d.Decode(&info) != nil {
		return ambiguous()
	}
	for name, value := range info {
		ok := true
		switch name {
		case "model_family", "base_name", "quantization_level", "parameter_size":
			_, ok = value.(string)
		case "context_length", "embedding_length":
			_, ok = value.(float64)
		}
		if !ok {
			return late(http.StatusBadRequest, ReasonWrongType, fmt.Sprintf("info.%s is of a type that makes Ollama fail; correct it or leave it out", name))
		}
	}
	return nil
}

// readManaged reads a name for what is made, moved or read on nodes. The hosted service is none of
// these.
func readManaged(spelling string, into *ModelName, invalid string) (sent string, err error) {
	name, sent, err := managedName(spelling)
	switch {
	case err != nil:
		return "", late(http.StatusBadRequest, ReasonBadModelName, invalid)
	case name.Cloud():
		return "", late(http.StatusForbidden, ReasonCloudModel, "ollama cloud is disabled: models of the hosted service are unavailable")
	}
	*into = name
	return sent, nil
}

// managedName reads a name, and gives the JSON text by which a node knows it: as the client spelt
// it, because registries may know cases apart, but without a scheme, which would choose another
// protocol, and without ":local", which some routes of a node take for a tag.
func managedName(spelling string) (name ModelName, sent string, err error) {
	if name, err = ParseModelName(spelling); err != nil {
		return name, "", err
	}
	plain := strings.TrimSpace(spelling)
	if _, after, ok := strings.Cut(plain, "://"); ok {
		plain = strings.TrimPrefix(after, "/") // a scheme alone names no host
	}
	if base, source := cutSource(plain); source == runsLocally {
		plain = base
	}
	again, err := ParseModelName(plain)
	if err != nil || again.Key() != name.Key() {
		return name, "", ErrModelName
	}
	text, err := json.Marshal(plain)
	return name, string(text), err
}

func isFalse(raw []byte) bool { return string(raw) == "false" }
