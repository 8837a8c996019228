package web

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

const (
	// feedContent bounds the posts of a feed that are whole, in bytes; further ones have their beginning.
	feedContent = 2 << 20
	xmlHeader   = `<?xml version="1.0" encoding="utf-8"?>` + "\n"
)

// The elements of Atom, RFC 4287, in the order in which they are written.
type (
	atomFeed struct {
		XMLName  xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
		Base     string      `xml:"xml:base,attr"`
		ID       string      `xml:"id"`
		Title    string      `xml:"title"`
		Subtitle string      `xml:"subtitle,omitempty"`
		Updated  string      `xml:"updated"`
		Links    []atomLink  `xml:"link"`
		Entries  []atomEntry `xml:"entry"`
	}
	atomLink struct {
		Rel  string `xml:"rel,attr"`
		Type string `xml:"type,attr,omitempty"`
		Href string `xml:"href,attr"`
	}
	atomEntry struct {
		ID         string         `xml:"id"`
		Title      string         `xml:"title"`
		Links      []atomLink     `xml:"link"`
		Published  string         `xml:"published"`
		Updated    string         `xml:"updated"`
		Author     string         `xml:"author>name"`
		Categories []atomCategory `xml:"category"`
		Summary    string         `xml:"summary,omitempty"`
		Content    *atomContent   `xml:"content"`
	}
	atomCategory struct {
		Term string `xml:"term,attr"`
	}
	atomContent struct {
		Type string `xml:"type,attr"`
		HTML string `xml:",chardata"`
	}
)

// feed is the newest posts in Atom.
func (h *Handler) feed(w http.ResponseWriter, v *visit) error {
	page, err := h.store.Posts(v.Context(), blog.Query{Limit: listLength, Full: true})
	if err != nil {
		return err
	}
	address := h.address(v.Request)
	feed := atomFeed{
		Base: address + "/", ID: address + "/", Title: h.opts.Title, Subtitle: h.opts.Description,
		Links: []atomLink{{"self", "application/atom+xml", address + "/feed.xml"}, {"alternate", "text/html", address + "/"}},
	}
	updated, size := time.Unix(0, 0), 0 // an empty feed must say something, and always the same
	for _, p := range page.Posts {
		e := h.entry(address, p)
		if size += len(p.HTML); size > feedContent {
			e.Content = nil
		}
		feed.Entries = append(feed.Entries, e)
		if p.Updated.After(updated) {
			updated = p.Updated
		}
	}
	feed.Updated = atomTime(updated)
	body := bytes.NewBufferString(xmlHeader)
	if err := xml.NewEncoder(body).Encode(feed); err != nil {
		return fmt.Errorf("write the feed: %w", err)
	}
	h.sendXML(w, v, "application/atom+xml; charset=utf-8", body.Bytes())
	return nil
}

func (h *Handler) entry(address string, p blog.Post) atomEntry {
	author := p.AuthorName
	if author == "" {
		author = h.opts.Title // RFC 4287, 4.2.1: there must be one
	}
	e := atomEntry{
		ID:    fmt.Sprintf("%s/post/%d", address, p.ID), // without the slug, which may change
		Title: p.Title, Published: atomTime(p.Published), Updated: atomTime(p.Updated), Author: author,
		Links:   []atomLink{{"alternate", "text/html", address + (&url.URL{Path: p.Path()}).EscapedPath()}},
		Summary: blog.Excerpt(p.Text, excerptLength), Content: &atomContent{Type: "html", HTML: p.HTML},
	}
	for _, tag := range p.Tags {
		e.Categories = append(e.Categories, atomCategory{tag})
	}
	return e
}

func atomTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (h *Handler) sendXML(w http.ResponseWriter, v *visit, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Vary", "Cookie")
	w.Header().Set("Cache-Control", "no-cache")
	h.send(w, v, http.StatusOK, body)
}
