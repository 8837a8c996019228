package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// What a node of a drill is like: its answers are some ten times as short as real ones, so that
// a drill is over soon, and its records no more frequent, so that the cores have time for them.
const (
	drillModel      = "drill:latest"
	drillSlots      = 4
	drillFirstToken = 30 * time.Millisecond
	drillTokenRate  = 100 // a second, of an answer that is alone
	leastTokens     = 8   // of an answer
	mostTokens      = 16
	drillCrowding   = 2.4 // how much longer a token takes with all slots busy, as simnode has it from a real node
)

// runSimnode serves a simulated node that can be broken in this process until its parent has
// gone. It prints where it listens.
func runSimnode(listen string) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	node := simnode.New(simnode.Options{
		Slots: drillSlots, Admin: true, CheckHost: true,
		Models: []simnode.Model{{
			Name: drillModel, LoadTime: 400 * time.Millisecond, FirstToken: drillFirstToken, DecodeRate: drillTokenRate,
			ShortestAnswer: mostTokens, // a question asks for so many, or for fewer
		}},
	})
	server := simnode.Serve(ln.(*net.TCPListener), node, simnode.ServerOptions{})
	fmt.Println(server.Addr())
	endWithInput()
	return nil
}

// breakNode gives the node at an address faults for a time, in the words of simnode.ParseFault.
func breakNode(addr string, lasts time.Duration, words ...string) error {
	var faults []string
	for _, w := range words {
		faults = append(faults, fmt.Sprintf("%s,for=%v", w, lasts))
	}
	body, err := json.Marshal(faults)
	if err != nil {
		return err
	}
	_, err = askFaults(http.MethodPut, addr, body)
	return err
}

// chatsOf is how many chats the node at an address has been asked for.
func chatsOf(addr string) (int, error) {
	report, err := askFaults(http.MethodGet, addr, nil)
	return report.Stats.Requests[chatPath], err
}

// askFaults talks to the node about its faults, over a connection of its own.
func askFaults(method, addr string, body []byte) (report simnode.Report, err error) {
	r, err := http.NewRequest(method, "http://"+addr+"/_faults", bytes.NewReader(body))
	if err != nil {
		return report, err
	}
	c := http.Client{Timeout: dialTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		return report, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return report, err
	}
	if resp.StatusCode != http.StatusOK {
		return report, fmt.Errorf("the node's faults: status %d: %.200q", resp.StatusCode, text)
	}
	return report, json.Unmarshal(text, &report)
}
