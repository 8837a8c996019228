package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// maxThreads is what a node's runner takes; with many more it is busy for minutes.
const maxThreads = 512

// Preload is a model that is kept loaded on a node: it is loaded when the node is up, for ever,
// and again when it has gone, and it is not unloaded to make room for another. A node that does
// not have it on its disk is left alone.
//
// The options stand over those of the model itself. Only requests that come to the same options
// use what is loaded; any other has the node load the model anew.
type Preload struct {
	// The model's name, as in `llama3:8b`.
	Model string `json:"model"`

	// The context of each slot, in tokens. Default: the model's own, else the node's.
	NumCtx int `json:"num_ctx,omitempty"`

	// How many tokens of a prompt are worked on at once. Default: the model's own, else the node's.
	NumBatch int `json:"num_batch,omitempty"`

	// How many layers are put on GPUs; 0 for none. Default: what fits.
	NumGPU *int `json:"num_gpu,omitempty"`

	// Which GPU is the main one, counted from 0. Default: 0.
	MainGPU int `json:"main_gpu,omitempty"`

	// How many threads compute what is not on a GPU, at most 512. Default: the node's choice.
	NumThread int `json:"num_thread,omitempty"`

	// Whether the file is mapped into memory rather than read. Default: the node's choice.
	UseMmap *bool `json:"use_mmap,omitempty"`
}

// resolvePreloads checks what is kept loaded on a node and turns it into what the queue takes.
func resolvePreloads(node string, preloads []*Preload) ([]schedule.Preload, error) {
	var resolved []schedule.Preload
	for i, p := range preloads {
		if p == nil {
			return nil, fmt.Errorf("preload %d: it is null; give it a model", i+1)
		}
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		for _, other := range resolved {
			if other.Model == key {
				return nil, errTwicePreloaded(p.Model)
			}
		}
		options, err := p.options()
		if err != nil {
			return nil, fmt.Errorf("preload %s: %w", p.Model, err)
		}
		resolved = append(resolved, schedule.Preload{Node: node, Model: key, Options: options})
	}
	return resolved, nil
}

// key is that of the model's name.
func (p *Preload) key() (string, error) {
	name, err := wire.ParseModelName(p.Model)
	switch {
	case p.Model == "":
		return "", errors.New("preload needs the name of a model, as in llama3:8b")
	case err != nil:
		return "", fmt.Errorf("preload: %q is not the name of a model; write it as in llama3:8b", p.Model)
	case name.Cloud():
		return "", fmt.Errorf("preload: %q runs at the hosted service; name a model that the node runs itself", p.Model)
	}
	return name.Key(), nil
}

func errTwicePreloaded(model string) error {
	return fmt.Errorf("preload: the node keeps %s loaded already, and a model only once; leave one out", model)
}

// options are those that are set.
func (p *Preload) options() (o wire.RunnerOptions, err error) {
	gpus := 0
	if p.NumGPU != nil {
		gpus = *p.NumGPU
		o.NumGPU = wire.OptionalInt{Value: gpus, Set: true}
	}
	for _, err := range []error{
		notNegative("num_ctx", p.NumCtx), notNegative("num_batch", p.NumBatch), notNegative("num_gpu", gpus),
		notNegative("main_gpu", p.MainGPU), notNegative("num_thread", p.NumThread),
	} {
		if err != nil {
			return o, err
		}
	}
	if p.NumThread > maxThreads {
		return o, fmt.Errorf("num_thread must be between 1 and %d, not %d", maxThreads, p.NumThread)
	}
	for _, n := range []int{p.NumCtx, p.NumBatch, gpus, p.MainGPU} {
		if n > maxCount {
			return o, fmt.Errorf("%d is more than a node takes; use at most %d", n, maxCount)
		}
	}
	set := func(n int) wire.OptionalInt { return wire.OptionalInt{Value: n, Set: n != 0} }
	o.NumCtx, o.NumBatch, o.MainGPU, o.NumThread = set(p.NumCtx), set(p.NumBatch), set(p.MainGPU), set(p.NumThread)
	if p.UseMmap != nil {
		o.UseMMap = wire.OptionalBool{Value: *p.UseMmap, Set: true}
	}
	return o, nil
}

func (n *Node) readPreload(d *caddyfile.Dispenser) error {
	model, err := value(d, "llama3:8b")
	if err != nil {
		return err
	}
	p := &Preload{Model: model}
	key, err := p.key()
	if err != nil {
		return d.WrapErr(err)
	}
	for _, other := range n.Preload {
		if known, _ := other.key(); known == key {
			return d.WrapErr(errTwicePreloaded(model))
		}
	}
	g := grammar{name: "preload", options: []word{
		{name: "num_ctx", read: count(&p.NumCtx, 1, maxCount, "8192")},
		{name: "num_batch", read: count(&p.NumBatch, 1, maxCount, "512")},
		{name: "num_gpu", read: func(d *caddyfile.Dispenser) error {
			p.NumGPU = new(int)
			return count(p.NumGPU, 0, maxCount, "99")(d)
		}},
		{name: "main_gpu", read: count(&p.MainGPU, 0, maxCount, "1")},
		{name: "num_thread", read: count(&p.NumThread, 1, maxThreads, "8")},
		{name: "use_mmap", read: onOrOff(&p.UseMmap)},
	}}
	if _, err := g.block(d); err != nil {
		return err
	}
	n.Preload = append(n.Preload, p)
	return nil
}

// onOrOff reads one of these words.
func onOrOff(into **bool) option {
	return func(d *caddyfile.Dispenser) error {
		var v string
		if err := choice(&v, "on", "off")(d); err != nil {
			return err
		}
		on := v == "on"
		*into = &on
		return nil
	}
}
