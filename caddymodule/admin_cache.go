package caddymodule

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Where the admin API tells of the cache.
const (
	cachePath   = "/ollama/cache"
	purgePath   = cachePath + "/purge"
	entriesPath = cachePath + "/entries/"
)

// mostPurge bounds the body of a purge, in bytes. Its longest text is the value of a tenant's
// header, and Caddy takes no headers beyond 1 MiB.
const mostPurge = 1 << 20

// serveCache answers GET /ollama/cache.
func serveCache(w http.ResponseWriter, r *http.Request) error {
	e, err := engineFor(w, r, http.MethodGet)
	if err != nil {
		return err
	}
	return answerJSON(w, e.Cache().Stats())
}

// servePurge answers POST /ollama/cache/purge.
func servePurge(w http.ResponseWriter, r *http.Request) error {
	e, err := engineFor(w, r, http.MethodPost)
	if err != nil {
		return err
	}
	target, err := readTarget(http.MaxBytesReader(w, r.Body, mostPurge))
	if err != nil {
		return err
	}
	if !e.Cache().Stats().On {
		return refused(http.StatusConflict, "there is no cache; add the word cache to the global option ollama")
	}
	// The same model may have answered under other names, too.
	if m := e.Fleet().Snapshot().Models[target.Model]; m != nil && m.Identity != "" {
		target.Identities = []string{m.Identity}
	}
	return answerJSON(w, e.Purge(r.Context(), target))
}

// readTarget reads what is to be purged: an object with one member. Its errors repeat nothing of
// the body, since Caddy logs them.
func readTarget(body io.Reader) (cache.Target, error) {
	name, value, ok := onlyMember(json.NewDecoder(body))
	text, isText := value.(string)
	switch {
	case ok && name == "all" && value == true:
		return cache.Target{All: true}, nil
	case !ok || !isText:
		return notOneTarget()
	}
	switch name {
	case "tag":
		return theOnes(cache.Target{Tag: text}, text)
	case "tenant":
		return theOnes(cache.Target{Tenant: text}, text)
	case "model":
		model, err := wire.ParseModelName(text)
		if text != "" && err != nil {
			return cache.Target{}, refused(http.StatusBadRequest, "model is not the name of one; write it as in llama3 or team/llama3:8b")
		}
		return theOnes(cache.Target{Model: model.Key()}, text)
	case "key":
		if text != "" && !isKeyName(text) {
			return cache.Target{}, refused(http.StatusBadRequest, "key: %s", whatKeysAre)
		}
		return theOnes(cache.Target{Key: text}, text)
	}
	return notOneTarget()
}

// theOnes gives a target unless nothing is named by it.
func theOnes(t cache.Target, text string) (cache.Target, error) {
	if text == "" {
		return cache.Target{}, refused(http.StatusBadRequest, `an empty text names no answers; to purge all of them write {"all": true}`)
	}
	return t, nil
}

func notOneTarget() (cache.Target, error) {
	return cache.Target{}, refused(http.StatusBadRequest,
		`the body must say in one member what to purge: {"all": true}, or a text as "tag", "model", "tenant" or "key", as in {"tag": "prices"}`)
}

// onlyMember reads an object that has one member, and behind which there is nothing.
func onlyMember(d *json.Decoder) (name string, value any, ok bool) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", nil, false
	}
	t, err := d.Token()
	if name, ok = t.(string); err != nil || !ok || d.Decode(&value) != nil {
		return "", nil, false
	}
	if t, err = d.Token(); err != nil || t != json.Delim('}') {
		return "", nil, false
	}
	_, err = d.Token()
	return name, value, err == io.EOF
}

// whatKeysAre says what a text is not that isKeyName refuses.
const whatKeysAre = "that is not the key of an answer, which has 43 letters, digits, - and _, as in the access log"

// isKeyName tells whether a text can be the key of an answer as it is told outside. Others are not
// looked for: in Redis something else may lie under them.
func isKeyName(s string) bool {
	const size = len(call.Key{}) // before it is spelt; its length tells of line ends, which are passed over
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == size && len(s) == base64.RawURLEncoding.EncodedLen(size)
}

// serveEntry answers GET /ollama/cache/entries/{key}. What was asked and answered is told only with
// text=1.
func serveEntry(w http.ResponseWriter, r *http.Request) error {
	e, err := engineFor(w, r, http.MethodGet)
	if err != nil {
		return err
	}
	key := strings.TrimPrefix(r.URL.Path, entriesPath)
	if isKeyName(key) {
		if entry, ok := e.Cache().Inspect(r.Context(), key, r.URL.Query().Get("text") == "1"); ok {
			return answerJSON(w, entry)
		}
	}
	return refused(http.StatusNotFound, "no answer is stored under this key, or not any more")
}
