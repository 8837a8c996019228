package gateway

import (
	"fmt"
	"path"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// A Site is what concerns who asks: one place where the gateway is mounted.
type Site struct {
	class  call.Class
	models []string // globs of normalised short names; none: all
	manage bool
}

// SiteConfig is what an operator wishes of a site. The zero value works.
type SiteConfig struct {
	Class  string   // interactive (default), background or batch
	Models []string // globs of normalised short names. Default: all
	Manage bool     // allows what changes a node: so far only to unload a model
}

// NewSite checks the wishes.
func NewSite(c SiteConfig) (*Site, error) {
	class, err := call.ParseClass(c.Class)
	if err != nil {
		return nil, err
	}
	s := &Site{class: class, manage: c.Manage}
	for _, glob := range c.Models {
		if _, err := path.Match(glob, ""); err != nil {
			return nil, fmt.Errorf("models: %q is not a glob; use *, ? and [...] as in llama3*", glob)
		}
		s.models = append(s.models, strings.ToLower(glob))
	}
	return s, nil
}

// allows tells whether the site serves a model, by its normalised short name. A glob without
// a tag means every tag: "llama3" is not "llama3:latest" alone.
func (s *Site) allows(short string) bool {
	if len(s.models) == 0 {
		return true
	}
	bare, _, _ := strings.Cut(short[strings.LastIndexByte(short, '/')+1:], ":")
	bare = short[:strings.LastIndexByte(short, '/')+1] + bare
	for _, glob := range s.models {
		for _, name := range [...]string{short, bare} {
			if ok, _ := path.Match(glob, name); ok {
				return true
			}
		}
	}
	return false
}
