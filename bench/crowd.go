package main

import (
	"bufio"
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// A crowd is connections and streams that say nothing, while others ask something new.
type crowd struct {
	name        string
	about       string
	connections int // kept alive, after one small chat each
	streams     int // behind their first record
}

// idlePause is how many seconds a stream of a crowd says nothing: longer than a crowd stays,
// shorter than the gateway's stall_timeout of a minute.
const idlePause = 55

// crowds are all there are.
func crowds(quick bool) []crowd {
	connections, streams := 10_000, 2000
	if quick {
		connections, streams = 2000, 500
	}
	return []crowd{
		{"idle-connections", "Connections that are kept alive after one small chat each", connections, 0},
		{"idle-streams", "Streams that say nothing behind their first record", 0, streams},
		{"idle-both", "Both at a time", connections, streams},
	}
}

// files is how many files a proxy needs at most: a stream takes two, and what else there is.
func (c crowd) files() int { return c.connections + 2*c.streams + 1000 }

// within scales the crowd down to a limit of open files.
func (c crowd) within(files int) crowd {
	if need := c.files(); files < need {
		part := float64(files-1000) / float64(need-1000)
		c.connections, c.streams = int(float64(c.connections)*part), int(float64(c.streams)*part)
	}
	return c
}

// A crowdSample is what a crowd before one peer has shown.
type crowdSample struct {
	connections, streams int // what there was
	rssBefore, rss       int64
	alone, amid          *sample // of new short chats, without the crowd and with it
}

// each is the memory that one of the crowd takes, in bytes.
func (s *crowdSample) each() float64 {
	return float64(s.rss-s.rssBefore) / float64(s.connections+s.streams)
}

// newChats are the new short chats.
var newChats = load{clients: 8, words: 8, answers: 250}

// settleTime is how long a peer is left alone before its memory is read: what it does behind
// its answers is done then. Nothing makes it give memory back.
const settleTime = 2 * time.Second

// crowdSetup has nodes that answer at once and have room for all streams.
func crowdSetup(proxy string) setup {
	s := plainSetup
	s.proxies = []string{proxy}
	s.slots = 1024 // the most there may be; a quarter of the streams is 500
	return s
}

// crowd measures a crowd before one proxy, with processes of their own.
func (b *bench) crowd(ctx context.Context, c crowd, proxy string) (s *crowdSample, err error) {
	allowed, err := allowFiles(c.files())
	if err != nil {
		return nil, err
	}
	if now := c.within(allowed); now != c {
		fmt.Fprintf(b.progress, "%s: only %d open files are allowed, of %d: scaled down to %d connections and %d streams\n",
			c.name, allowed, c.files(), now.connections, now.streams)
		c = now
	}
	fmt.Fprintf(b.progress, "%s, %s\n", c.name, proxy)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause // says more than the failure it has led to
		}
	}()
	f, err := startFleet(ctx, b.binary, b.dir, crowdSetup(proxy), cancel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := f.peers[1]

	s = &crowdSample{connections: c.connections, streams: c.streams}
	if s.alone, err = newChats.run(ctx, p, f.nodes, &b.nonce); err != nil {
		return nil, err
	}
	if s.rssBefore, err = settledRSS(ctx, p); err != nil {
		return nil, err
	}
	there, err := f.gather(c, p.addrs[0], &b.nonce)
	if err != nil {
		return nil, err
	}
	if s.rss, err = settledRSS(ctx, p); err != nil {
		return nil, err
	}
	if s.amid, err = newChats.run(ctx, p, f.nodes, &b.nonce); err != nil {
		return nil, err
	}
	if err := there.check(); err != nil {
		return nil, err
	}
	s.alone.settle()
	s.amid.settle()
	return s, nil
}

// settledRSS is what a peer has in memory after a while.
func settledRSS(ctx context.Context, p *peer) (int64, error) {
	if err := sleepUntil(ctx, time.Now().Add(settleTime)); err != nil {
		return 0, err
	}
	u, err := usageOf(p.pids)
	return u.rss, err
}

// A gathering is a crowd in a process of its own.
type gathering struct {
	process *process
	says    *bufio.Reader
}

// gather brings a crowd before an address, and returns when it is complete.
func (f *fleet) gather(c crowd, addr string, nonce *uint64) (*gathering, error) {
	args := []string{
		"-crowd", addr, fmt.Sprint("-connections=", c.connections), fmt.Sprint("-streams=", c.streams), fmt.Sprint("-nonce=", *nonce),
	}
	*nonce += 1 << 32
	p, err := f.startSelf(filepath.Join(f.dir, "crowd.log"), args...)
	if err != nil {
		return nil, err
	}
	g := &gathering{process: p, says: bufio.NewReader(p.stdout)}
	return g, g.hear("gathered\n")
}

// check asks the crowd whether all of it is still there.
func (g *gathering) check() error {
	if _, err := g.process.stdin.Write([]byte("check\n")); err != nil {
		return err
	}
	return g.hear("all there\n")
}

func (g *gathering) hear(want string) error {
	line, err := g.says.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the crowd: %w", err)
	}
	if line != want {
		return fmt.Errorf("the crowd says %q", line)
	}
	return nil
}
