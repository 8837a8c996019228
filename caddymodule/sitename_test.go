package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const coldAsk = `{"model":"m","prompt":"hello","stream":false,"options":{"temperature":0}}`

// cacheStatus asks and gives what the cache did.
func cacheStatus(t *testing.T, c *http.Client, host string, headers ...string) string {
	t.Helper()
	q, err := http.NewRequest(http.MethodPost, "http://"+host+"/api/generate", strings.NewReader(coldAsk))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		q.Header.Set(name, value)
	}
	resp, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	return resp.Header.Get("Cache-Status")
}

func hits(status string) bool { return strings.Contains(status, "; hit") }

// Two ways into one server that are told the same: who comes by one is not given what was generated
// for the other, whatever Host it sends, and a change of the configuration does not mix them up.
func TestSites_AnonymousClientsShareWithTheirOwnSiteOnly(t *testing.T) {
	node, site := startNode(t, fast("m")), socket(t)
	config := func(first string) []byte {
		return configOf(t, fmt.Sprintf("ollama {\nnode %s\ncache\n}", node), fmt.Sprintf(`http:// {
			bind unix/%s
			%s
			@inside header X-From inside
			handle @inside {
				ollama
			}
			handle {
				ollama
			}
		}`, site, first))
	}
	load(t, config(""))
	c := overReloads(client(t, site, func(tr *http.Transport) { tr.DisableKeepAlives = true }))
	eventually(t, "the model is known and its answer stored", func() bool { return hits(cacheStatus(t, c, "a.example", "X-From: inside")) })
	if s := cacheStatus(t, c, "a.example"); hits(s) {
		t.Errorf("who comes from outside was given what was generated inside: %s", s)
	}
	if s := cacheStatus(t, c, "b.example", "X-From: inside"); hits(s) {
		t.Errorf("who sent another Host was given the answer: %s", s)
	}
	if s := cacheStatus(t, c, "A.example", "X-From: inside"); !hits(s) {
		t.Errorf("a Host in other letters is another site: %s", s)
	}

	load(t, config("@new header X-From new\nhandle @new {\nollama\n}"))
	if s := cacheStatus(t, c, "a.example", "X-From: new"); hits(s) {
		t.Errorf("a site that is new was given an answer of another one: %s", s)
	}
	if s := cacheStatus(t, c, "a.example", "X-From: inside"); !hits(s) {
		t.Errorf("a reload made another site of one that is as it was: %s", s)
	}
	if s := cacheStatus(t, c, "a.example"); !hits(s) {
		t.Errorf("so did it of the other one: %s", s)
	}
}

func TestTenant_UserIsWhoCaddyHasAuthenticated(t *testing.T) {
	node, site := startNode(t, fast("m")), socket(t)
	load(t, configOf(t, fmt.Sprintf("ollama {\nnode %s\ncache\n}", node), fmt.Sprintf(`http:// {
		bind unix/%s
		basic_auth {
			# Their passwords are a and b.
			alice $2a$04$gsvCa.BRJUBFEZtat6YEQ.iHVIshf8Y6RmWWK0eBUi9IUO/mYTx8q
			bob $2a$04$Hptk4dDkpnsZIl91CykBl.QR9cTKdwCDMTNYhJo0jWxwlqvGcU9fG
		}
		ollama {
			tenant user
		}
	}`, site)))
	c := client(t, site, nil)
	const alice, bob = "Authorization: Basic YWxpY2U6YQ==", "Authorization: Basic Ym9iOmI="
	eventually(t, "alice is given her answer again", func() bool { return hits(cacheStatus(t, c, "site", alice)) })
	if s := cacheStatus(t, c, "site", bob); hits(s) {
		t.Errorf("bob was given alice's answer: %s", s)
	}
	if s := cacheStatus(t, c, "site", alice, "X-Other: 1"); !hits(s) {
		t.Errorf("alice was not given her own: %s", s)
	}
}
