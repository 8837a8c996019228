package caddymodule

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// simulateFaultsHelp is the part of the command's help that tells how to break the nodes.
const simulateFaultsHelp = `
FAULTS

--fault makes something wrong with the nodes, and may be given several times. It is words with
commas between them, or a JSON object; with a number and a colon before it, only that node has
it, counted from 1. Where several strike one request all of them act, the first one outermost.

	--fault status=500,share=0.1          every tenth answer, at random, is an error
	--fault 2:first-byte=5s               node 2 takes 5 s before the first byte
	--fault gap=2s,every=3                every third answer pauses before each record
	--fault reset-after=3                 connections break behind the third record; also
	                                      close-after, half-after, clean-after; 100B for bytes
	--fault 1:flap=10s                    node 1 refuses connections for 5 s of every 10 s
	--fault hang-accept,after=30s,for=10s from 30 s on, for 10 s, connecting hangs; also
	                                      refuse, deaf, and with --tls-ca tls=expired
	--fault slow=20                       loads, prompts and tokens take 20 times as long
	--fault never,path=/api/chat          chats are never answered, the rest is fine
	--fault crash,frames=5,share=0.01     the model's process dies after 5 tokens
	--fault die,contains=boom             the node dies of a request with that text in it
	--fault tags=ghost                    /api/tags lists a model that is not there
	--fault no-space                      no layer and no blob finds room
	--fault upload=1MiB,die               the node dies in the middle of a blob that is sent; also
	                                      never, end=reset, end=close
	--fault reset-after=9,path=/api/pull  a pull breaks behind its ninth record
	--fault missing,model=sim-chat        404 for that model; also busy, file-gone, load-fails
	--fault 'bad-line,frames=2'           a broken record; also giant-line=64MiB, too-long=9,
	                                      type=text/html, redirect=URL
	--fault '{"status":503,"headers":{"Retry-After":"3"},"first":5}'

Which requests a fault strikes: path (default: what makes text or vectors; "*" is every path),
model, contains, skip, every, share with seed, first. When it is there: after, for, period.

With --faults-admin each node lets clients read and change its faults while it runs:

	curl localhost:11434/_faults                                    what is wrong, and counts
	curl -X PUT localhost:11434/_faults -d '["status=500","gap=1s"]'   replaces, POST adds
	curl -X DELETE localhost:11434/_faults                          heals

Requests that a real node dies of kill these, too; after --restart they are back.
`

// faultFlags adds the flags of faults.
func faultFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArray("fault", nil, "something that is wrong with the nodes, as status=500,share=0.1; may be repeated")
	f.Bool("faults-admin", false, "lets clients read and change the faults at /_faults of each node")
	f.Duration("restart", supervised, "how long after its death a node is back; 0: never")
	f.String("tls-ca", "", "serve HTTPS and write the certificate that clients must trust to this file")
}

// supervised is how long the service of a packaged Ollama server stays down when it has died.
const supervised = 3 * time.Second

// A simulatedFault is a fault and the node that has it.
type simulatedFault struct {
	node int // from 1; 0: all
	simnode.Fault
}

// simulatedFaults reads what --fault was given.
func simulatedFaults(texts []string, count int) ([]simulatedFault, error) {
	var faults []simulatedFault
	for _, text := range texts {
		var f simulatedFault
		words := text
		if number, rest, ok := strings.Cut(text, ":"); ok {
			if n, err := strconv.Atoi(number); err == nil {
				if n < 1 || n > count {
					return nil, fmt.Errorf("--fault %s: there is no node %d, only 1 to %d", text, n, count)
				}
				f.node, words = n, rest
			}
		}
		var err error
		if f.Fault, err = simnode.ParseFault(words); err != nil {
			return nil, fmt.Errorf("--fault: %w", err)
		}
		faults = append(faults, f)
	}
	return faults, nil
}

// faultsOf are the faults of one node, counted from 1.
func faultsOf(faults []simulatedFault, node int) []simnode.Fault {
	var out []simnode.Fault
	for _, f := range faults {
		if f.node == 0 || f.node == node {
			out = append(out, f.Fault)
		}
	}
	return out
}

// needsTLS reports whether one of the faults spoils TLS.
func needsTLS(faults []simulatedFault) bool {
	for _, f := range faults {
		if f.TLS != "" {
			return true
		}
	}
	return false
}

// simulatedCertificates makes certificates and writes the authority's to the file.
func simulatedCertificates(file string) (*simnode.Certificates, error) {
	certificates, err := simnode.NewCertificates()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, certificates.PEM(), 0o644); err != nil { // a certificate is public
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	return certificates, nil
}
