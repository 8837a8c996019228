package web

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

const (
	sitemapMost = 50_000 // addresses in one file, by the protocol of sitemaps.org
	sitemapSpec = "http://www.sitemaps.org/schemas/sitemap/0.9"
)

// sitemap lists the files that list all posts. Each begins at a cursor, so that a new post changes
// the first one only.
func (h *Handler) sitemap(w http.ResponseWriter, v *visit) error {
	address := h.address(v.Request)
	body := bytes.NewBufferString(xmlHeader + `<sitemapindex xmlns="` + sitemapSpec + `">` + "\n")
	for after, n, first := (blog.Cursor{}), 0, true; first || !after.IsZero(); first = false {
		if n%h.perSitemap == 0 {
			query := ""
			if !first {
				query = "?after=" + cursorText(after)
			}
			fmt.Fprintf(body, "<sitemap><loc>%s/sitemap-posts.xml%s</loc></sitemap>\n", escaped(address), escaped(query))
		}
		page, err := h.store.Addresses(v.Context(), after, min(sitemapPage, h.perSitemap))
		if err != nil {
			return err
		}
		n, after = n+len(page.Posts), page.Next
	}
	body.WriteString("</sitemapindex>\n")
	h.sendXML(w, v, "application/xml; charset=utf-8", body.Bytes())
	return nil
}

// sitemapPage is how many addresses are asked of the store at once. It divides sitemapMost.
const sitemapPage = 1000

// sitemapPosts lists posts, written as they are read.
func (h *Handler) sitemapPosts(w http.ResponseWriter, v *visit) error {
	after, err := parseCursor(v.query("after"))
	if err != nil {
		return err
	}
	address := h.address(v.Request)
	for n := 0; ; {
		page, err := h.store.Addresses(v.Context(), after, min(sitemapPage, h.perSitemap))
		if err != nil {
			if n > 0 {
				panic(http.ErrAbortHandler) // half a list would be taken for the whole
			}
			return err
		}
		var part bytes.Buffer
		if n == 0 {
			w.Header().Set("Content-Type", "application/xml; charset=utf-8")
			w.Header().Set("Cache-Control", "no-cache")
			if v.Method == http.MethodHead {
				w.WriteHeader(http.StatusOK) // or it would count as a client that left
				return nil
			}
			part.WriteString(xmlHeader + `<urlset xmlns="` + sitemapSpec + `">` + "\n")
			if after.IsZero() {
				fmt.Fprintf(&part, "<url><loc>%s/</loc></url>\n", escaped(address))
			}
		}
		for _, p := range page.Posts {
			fmt.Fprintf(&part, "<url><loc>%s</loc><lastmod>%s</lastmod></url>\n", escaped(address+(&url.URL{Path: p.Path()}).EscapedPath()), atomTime(p.Updated))
		}
		n, after = n+len(page.Posts), page.Next
		last := after.IsZero() || n >= h.perSitemap
		if last {
			part.WriteString("</urlset>\n")
		}
		if _, err := w.Write(part.Bytes()); err != nil || last {
			return nil // an error is a reader who has left
		}
	}
}

func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	return b.String()
}

// robots keeps search engines from what is no text.
func (h *Handler) robots(w http.ResponseWriter, v *visit) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	body := "User-agent: *\nDisallow: /search\nDisallow: /login\nDisallow: /ai-inference\n\nSitemap: " + h.address(v.Request) + "/sitemap.xml\n"
	sendTagged(w, v, http.StatusOK, []byte(body), "")
	return nil
}
