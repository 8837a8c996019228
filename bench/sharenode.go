package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// The models of the nodes for requests that are answered together.
const (
	storyModel  = "stories"
	vectorModel = workload.Vectors
)

// The kinds of these nodes.
const (
	storyNode   = "stories"        // speaks, some four times as fast as real ones
	mixedNode   = "mixed"          // has both models, those of workload.Repeats
	mixedSerial = "mixed-serial"   // has them, too, and works at texts as serialNode does
	batchNode   = "vectors"        // has a price for a call, and a small one for each text of it
	serialNode  = "vectors-serial" // has one for each text, as Ollama 0.24.0, which works at them one by one
	sharedSlots = 4
)

// What Ollama 0.24.0 was measured to take: 50 calls with one text 2.3 ms each, one with 200 texts
// 2.2 ms for each of them.
const (
	serialCall = 100 * time.Microsecond
	serialText = 2200 * time.Microsecond
)

// sharingNode is the node of a kind.
func sharingNode(kind string) (simnode.Options, error) {
	switch kind {
	case storyNode:
		return simnode.Options{Slots: sharedSlots, Models: []simnode.Model{{
			Name: storyModel, FirstToken: 100 * time.Millisecond, DecodeRate: 100, ShortestAnswer: 30, LongestAnswer: 30,
		}}}, nil
	case mixedNode:
		return workload.Repeats().Node, nil
	case mixedSerial:
		o := workload.Repeats().Node
		for i, m := range o.Models {
			if m.Name == vectorModel {
				o.Models[i] = vectorNode(serialCall, serialText).Models[0]
			}
		}
		return o, nil
	case batchNode:
		// What a runner is taken to need that works at all texts of a call together.
		return vectorNode(12*time.Millisecond, 2*time.Millisecond), nil
	case serialNode:
		return vectorNode(serialCall, serialText), nil
	}
	return simnode.Options{}, fmt.Errorf("no node of the kind %q", kind)
}

// vectorNode takes so long for each call, and for each text of textOf.
func vectorNode(call, text time.Duration) simnode.Options {
	return simnode.Options{Models: []simnode.Model{{
		Name: vectorModel, EmbedCall: call, PromptRate: tokensOfText / text.Seconds(), Capabilities: []string{simnode.Embedding},
	}}}
}

// runSharingNode serves a node of that kind in this process until its parent has gone, with all
// models loaded. It prints where it listens.
func runSharingNode(kind, listen string) error {
	options, err := sharingNode(kind)
	if err != nil {
		return err
	}
	options.Admin, options.CheckHost = true, true
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := simnode.Serve(ln.(*net.TCPListener), simnode.New(options), simnode.ServerOptions{})
	addr := server.Addr().String()
	for _, m := range options.Models {
		// Without an input the model is only loaded.
		resp, err := http.Post("http://"+addr+embedPath, "application/json", strings.NewReader(`{"model":"`+m.Name+`","input":[]}`))
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("load %s: status %d", m.Name, resp.StatusCode)
		}
	}
	fmt.Println(addr)
	endWithInput()
	return nil
}

// simnodeAccount asks a simulated node.
func simnodeAccount(addr string) (a account, err error) {
	report, err := askFaults(http.MethodGet, addr, nil)
	if err != nil {
		return a, err
	}
	a.upstream = report.Stats.Requests[chatPath] + report.Stats.Requests[embedPath]
	for name, m := range report.Stats.Models {
		if strings.HasPrefix(name, vectorModel+":") {
			a.gpuVectors += m.Busy
		} else {
			a.gpuChats += m.Busy
		}
	}
	return a, nil
}

// fastAccount asks a node that knows no time.
func fastAccount(addr string) (a account, err error) {
	c := http.Client{Timeout: dialTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + addr + countPath)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err1 := io.ReadAll(resp.Body)
	n, err2 := strconv.Atoi(string(text))
	return account{upstream: n}, errors.Join(err1, err2)
}
