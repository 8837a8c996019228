package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// profileTime is how long the processor is sampled, 100 times a second.
const profileTime = 5 * time.Second

// profileProxies puts the load on each proxy once more, outside the figures since a profile
// costs something, and writes SCENARIO-PEER.cpu.pprof and SCENARIO-PEER.heap.pprof into dir.
func profileProxies(ctx context.Context, dir string, sc scenario, f *fleet, nonce *uint64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sc.load.lasting, sc.load.turns = profileTime+time.Second, 1
	for _, p := range f.peers {
		if p.admin == "" {
			continue
		}
		name := filepath.Join(dir, sc.name+"-"+p.name)
		sampled := make(chan error, 1)
		go func() { // ends with the sampling
			time.Sleep(warmTime)
			path := fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(profileTime.Seconds()))
			sampled <- p.save(ctx, path, name+".cpu.pprof")
		}()
		_, err := sc.turn(ctx, f, p, nonce)
		for sc.play != nil && err == nil && len(sampled) == 0 { // its length is its own: it is played again until the profile is there
			_, err = sc.turn(ctx, f, p, nonce)
		}
		if err := <-sampled; err != nil {
			return err
		}
		if err != nil {
			return err
		}
		if err := p.save(ctx, "/debug/pprof/heap", name+".heap.pprof"); err != nil {
			return err
		}
	}
	return nil
}

// save writes what the admin endpoint answers to a file.
func (p *peer) save(ctx context.Context, path, file string) error {
	resp, err := p.ask(ctx, path)
	if err != nil {
		return fmt.Errorf("profile %s: %w", p.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("profile %s: %w", p.name, err)
	}
	return os.WriteFile(file, body, 0o644)
}
