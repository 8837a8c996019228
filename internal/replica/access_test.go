package replica

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

func TestClient_SaysWhoItIs(t *testing.T) {
	s := redistest.Start(t)
	s.Command("ACL", "SETUSER", "gateway", "on", ">s3cret/#", "~caddy-ollama:*", "+@all")
	s.Command("ACL", "SETUSER", "default", ">another") // nobody else gets in
	p := s.Proxy()
	for _, tt := range []struct {
		name, login string
		up          bool
	}{
		{"a user", "gateway:s3cret%2F%23@", true},
		{"the default user", ":another@", true},
		{"a wrong password", "gateway:hunter2@", false},
		{"an unknown user", "stranger:hunter2@", false},
		{"nobody", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, j := connect(t, "redis://"+tt.login+p.Addr()+"/2", patient)
			redistest.Until(t, "the first probe", func() bool { return j.told() != "[]" })
			if got := j.told(); got != fmt.Sprintf("[%v]", tt.up) {
				t.Fatalf("states %s, want %v", got, tt.up)
			}
			if tt.up {
				if err := c.Set(t.Context(), "caddy-ollama:k", nil, 0); err != nil {
					t.Error(err)
				}
			} else if _, err := c.Get(t.Context(), "caddy-ollama:k"); err != ErrDown {
				t.Errorf("get: %v; a Redis that lets nobody in costs nothing", err)
			}
			for _, secret := range []string{"s3cret", "hunter2", "another"} {
				if strings.Contains(j.log(), secret) {
					t.Errorf("a password is logged: %s", j.log())
				}
			}
		})
	}
}

func TestClient_MayBeForbiddenToPing(t *testing.T) {
	s := redistest.Start(t)
	s.Command("ACL", "SETUSER", "gateway", "on", ">secret", "~caddy-ollama:*", "+get", "+set", "+del")
	c, _ := connected(t, strings.Replace(s.URL(), "unix://", "unix://gateway:secret@", 1), patient)
	if err := c.Set(t.Context(), "caddy-ollama:k", []byte("v"), 0); err != nil {
		t.Error(err)
	}
	if err := c.Set(t.Context(), "other", []byte("v"), 0); !redis.IsPermissionError(err) {
		t.Errorf("set of a foreign key: %v", err)
	}
}

func TestClient_SpeaksTLSToWhomTheSystemTrusts(t *testing.T) {
	trusted, stranger := certify(t, authorities, "trusted"), certify(t, t.TempDir(), "stranger")
	t.Setenv("SSL_CERT_FILE", trusted.cert)
	for _, tt := range []struct {
		name, query string
		pair        pair
		host        string
		up          bool
	}{
		{"trusted", "", trusted, "localhost", true},
		{"of another authority", "", stranger, "localhost", false},
		{"for another name", "", trusted, "127.0.0.1", false},
		{"not verified", "?skip_verify=true", stranger, "127.0.0.1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
			l.Close() // redis-server wants a number; the kernel does not give it away again soon
			redistest.Start(t, "--bind", "127.0.0.1", "--tls-port", port, "--tls-auth-clients", "no",
				"--tls-cert-file", tt.pair.cert, "--tls-key-file", tt.pair.key, "--tls-ca-cert-file", tt.pair.cert)
			c, j := connect(t, "rediss://"+net.JoinHostPort(tt.host, port)+"/0"+tt.query, patient)
			redistest.Until(t, "the first probe", func() bool { return j.told() != "[]" })
			if got := j.told(); got != fmt.Sprintf("[%v]", tt.up) {
				t.Fatalf("states %s, want %v; log:\n%s", got, tt.up, j.log())
			}
			if !tt.up {
				if !strings.Contains(j.log(), "x509") && !strings.Contains(j.log(), "certificate") {
					t.Errorf("the log does not say that it is the certificate: %s", j.log())
				}
				return
			}
			if err := c.Set(t.Context(), "k", []byte("v"), 0); err != nil {
				t.Error(err)
			}
		})
	}
}

type pair struct{ cert, key string } // paths

// certify makes a certificate for localhost that signs itself, unless dir has it already: a
// process reads SSL_CERT_FILE once, however often a test runs in it.
func certify(t *testing.T, dir, name string) pair {
	t.Helper()
	p := pair{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}
	if _, err := os.Stat(p.cert); err == nil {
		return p
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		p.cert: {Type: "CERTIFICATE", Bytes: der},
		p.key:  {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// What a redis-server cannot be brought to in a test is played by a server that gives one reply to
// all commands, or none.
func TestClient_JudgesWhatOthersReply(t *testing.T) {
	for _, tt := range []struct {
		name, ping, get string
		up              bool // after the probe
		stays           bool // after some gets
	}{
		{"old: knows no HELLO", "+PONG\r\n", "$1\r\nv\r\n", true, true},
		{"loading at start", "-LOADING Redis is loading the dataset in memory\r\n", "", false, false},
		{"loading later", "+PONG\r\n", "-LOADING Redis is loading the dataset in memory\r\n", true, true},
		{"its master is down", "+PONG\r\n", "-MASTERDOWN Link with MASTER is down\r\n", true, true},
		{"a password since", "+PONG\r\n", "-NOAUTH Authentication required.\r\n", true, true},
		{"no Redis at all", "HTTP/1.1 400 Bad Request\r\n\r\n", "", false, false},
		{"no Redis any more", "+PONG\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", true, false},
		{"a reply cut short", "+PONG\r\n", "$100\r\nabc\r\n", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, j := connect(t, "redis://"+play(t, tt.ping, tt.get), 200*time.Millisecond)
			redistest.Until(t, "the first probe", func() bool { return j.told() != "[]" })
			if got := j.told(); got != fmt.Sprintf("[%v]", tt.up) {
				t.Fatalf("states %s, want %v", got, tt.up)
			}
			if !tt.up {
				return
			}
			for range failureLimit {
				_, err := c.Get(t.Context(), "k")
				if refused := strings.HasPrefix(tt.get, "-"); refused != errors.As(err, new(redis.Error)) {
					t.Errorf("get: %v", err)
				}
			}
			if c.Up() != tt.stays {
				t.Errorf("up %v, want %v", c.Up(), tt.stays)
			}
		})
	}
}

// play answers PING and GET as told, and refuses all other commands. A reply that is cut short
// ends the connection.
func play(t *testing.T, ping, get string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client's connection
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() { // *n, then $length and word n times
					var n int
					if _, err := fmt.Sscanf(lines.Text(), "*%d", &n); err != nil {
						return
					}
					var words []string
					for range n {
						lines.Scan()
						lines.Scan()
						words = append(words, strings.ToLower(lines.Text()))
					}
					if len(words) == 0 {
						return
					}
					reply := "-ERR unknown command\r\n"
					switch words[0] {
					case "ping":
						reply = ping
					case "get":
						reply = get
					}
					if _, err := conn.Write([]byte(reply)); err != nil || strings.HasPrefix(reply, "$100") {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
