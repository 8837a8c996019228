package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

//go:embed assets
var assetFiles embed.FS

// An asset is a file of assets/ with the hash of its content in its name: it may be kept for ever.
type asset struct {
	named   string // style.0123456789abcdef.css
	content []byte
	kind    string // media type
}

// assets are those of the program, by the names of their files and by the names that have hashes.
var assets = sync.OnceValue(func() map[string]asset {
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // they are part of the program, and each test reads them
	}
	all := map[string]asset{}
	for _, entry := range entries {
		content, err := assetFiles.ReadFile("assets/" + entry.Name())
		if err != nil {
			panic(err)
		}
		hash, extension := sha256.Sum256(content), path.Ext(entry.Name())
		a := asset{content: content, kind: mediaType(extension)}
		a.named = strings.TrimSuffix(entry.Name(), extension) + "." + hex.EncodeToString(hash[:8]) + extension
		all[entry.Name()], all[a.named] = a, a
	}
	return all
})

// mediaType does not ask the system, which may say something else on another machine.
func mediaType(extension string) string {
	switch extension {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(extension)
}

// assetPath is the address of a file of assets/. One that is not there is a mistake of a template.
func assetPath(name string) string {
	a, ok := assets()[name]
	if !ok {
		panic("there is no asset " + name)
	}
	return "/assets/" + a.named
}

// asset sends one of the program's files. Without the hash in its name it is asked for again each time.
func (h *Handler) asset(w http.ResponseWriter, v *visit) error {
	name := v.PathValue("name")
	a, ok := assets()[name]
	if !ok {
		return blog.ErrNotFound
	}
	keep := "no-cache"
	if name == a.named {
		keep = "public, max-age=31536000, immutable"
	}
	sendAsset(w, v, a, keep)
	return nil
}

// favicon is at the address that browsers ask for by themselves, too.
func (h *Handler) favicon(w http.ResponseWriter, v *visit) error {
	sendAsset(w, v, assets()["favicon.svg"], "public, max-age=86400")
	return nil
}

func sendAsset(w http.ResponseWriter, v *visit, a asset, keep string) {
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", keep)
	w.Header().Set("ETag", `"`+a.named+`"`)
	http.ServeContent(w, v.Request, "", time.Time{}, bytes.NewReader(a.content))
}
