package caddymodule

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/keys"
)

// 46
func TestMatrix_HeaderTricksHaveNoEffect(t *testing.T) {
	line, key, err := keys.New("alice")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newMatrixFront(t, matrixSetup{site: "keys {file." + file + "}"})
	bearer := "Authorization: Bearer " + key + "\r\n"
	for _, c := range []struct {
		name, headers string
		status        int
	}{
		{"a key", bearer, 200},
		{"no key", "", 401},
		{"two Hosts", bearer + "Host: other\r\n", 400},
		{"two equal Hosts", bearer + "Host: localhost\r\n", 400},
		{"NUL in a value", bearer + "X-A: a\x00b\r\n", 400},
		{"NUL in a name", bearer + "X\x00A: a\r\n", 400},
		{"a bare CR in a value", bearer + "X-A: a\rX-Api-Key: b\r\n", 400},
		{"a blank before the colon", "Authorization : Bearer " + key + "\r\n", 400},
		{"22 KiB in one header", bearer + "X-A: " + strings.Repeat("a", 22<<10) + "\r\n", 431},
		{"a megabyte in many headers", bearer + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 1000), 431},
		{"the key is named in Connection", bearer + "Connection: Authorization\r\n", 200},
		{"the key is named in Connection, and is none", "Authorization: Bearer x\r\nConnection: Authorization\r\n", 401},
		{"x-api-key is named in Connection", "X-Api-Key: " + key + "\r\nConnection: close, X-Api-Key\r\n", 200},
		{"one of two keys is named in Connection", bearer + "X-Api-Key: x\r\nConnection: X-Api-Key\r\n", 400},
		{"Content-Length is named in Connection", bearer + "Connection: Content-Length\r\n", 200},
		{"a key under a name with an underscore", "X_Api_Key: " + key + "\r\n", 401},
		{"a key in the name of a CGI variable", "HTTP_AUTHORIZATION: Bearer " + key + "\r\n", 401},
		{"underscores beside the key", bearer + "X_Api_Key: x\r\nContent_Length: 1\r\nTransfer_Encoding: chunked\r\nX_Forwarded_For: 1.2.3.4\r\n", 200},
		{"a user of a proxy before", "X-Forwarded-User: alice\r\nRemote-User: alice\r\nX-Forwarded-For: 127.0.0.1\r\n", 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := f.ask(http.MethodPost, fmt.Sprintf("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s", len(matrixWhole), c.headers, matrixWhole))
			if a.status != c.status {
				t.Errorf("%d %s, want %d", a.status, a.body, c.status)
			}
			if c.status == 401 && !strings.HasPrefix(a.body, `{"error":"`) || c.status == 200 && !strings.Contains(a.body, `"done":true`) {
				t.Errorf("%d %s", a.status, a.body)
			}
			seen, sent := f.node.asked()
			if asked := len(seen) == 1; asked != (c.status == 200) || len(seen) > 1 {
				t.Fatalf("the node had %d requests", len(seen))
			}
			for _, r := range seen {
				for name := range r.Header {
					switch name {
					case "Content-Type", "Content-Length", "Accept-Encoding", "User-Agent", "Via":
					default:
						t.Errorf("the node was sent %s", name)
					}
				}
				if !strings.Contains(sent[0], matrixCanary) {
					t.Errorf("the node was sent %s", sent[0])
				}
			}
		})
	}
	f.settled()
}
