package simnode

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Certificates are an authority made for one test or one rehearsal and what it signed for a node on this machine. They
// are in memory only and immutable.
type Certificates struct {
	roots     *x509.CertPool
	authority []byte // DER
	configs   map[string]*tls.Config
}

// NewCertificates makes an authority and certificates: a good one for localhost and the loopback addresses, and those
// that Fault.TLS presents.
func NewCertificates() (*Certificates, error) {
	now := time.Now()
	authority, err := issue(nil, now, "simulated authority")
	if err != nil {
		return nil, err
	}
	stranger, err := issue(nil, now, "unknown authority")
	if err != nil {
		return nil, err
	}
	c := &Certificates{roots: x509.NewCertPool(), authority: authority.cert.Raw, configs: make(map[string]*tls.Config)}
	c.roots.AddCert(authority.cert)
	for kind, leaf := range map[string]struct {
		by    *issued
		at    time.Time
		names []string
	}{
		"":           {authority, now, []string{"localhost", "127.0.0.1", "::1"}},
		"expired":    {authority, now.AddDate(-2, 0, 0), []string{"localhost", "127.0.0.1", "::1"}},
		"wrong-name": {authority, now, []string{"elsewhere.invalid"}},
		"untrusted":  {stranger, now, []string{"localhost", "127.0.0.1", "::1"}},
	} {
		l, err := issue(leaf.by, leaf.at, leaf.names...)
		if err != nil {
			return nil, err
		}
		c.configs[kind] = &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{l.cert.Raw}, PrivateKey: l.key}},
			NextProtos:   []string{"http/1.1"},
		}
	}
	return c, nil
}

// Roots are what a client must trust to reach a Server with these certificates.
func (c *Certificates) Roots() *x509.CertPool { return c.roots }

// PEM is the authority's certificate as a file has it.
func (c *Certificates) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.authority})
}

func (c *Certificates) config(fault string) *tls.Config { return c.configs[fault] }

type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue makes a certificate, good for a year from an hour before the time; without an issuer it is an authority.
func issue(by *issued, at time.Time, names ...string) (*issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", names, err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", names, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: names[0]},
		NotBefore:    at.Add(-time.Hour), // clocks differ
		NotAfter:     at.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	parent := &issued{template, key}
	if by == nil {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage = x509.KeyUsageCertSign
	} else {
		parent = by
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		for _, name := range names {
			if ip := net.ParseIP(name); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, name)
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", names, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", names, err)
	}
	return &issued{cert, key}, nil
}
