package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// atATime is how many members of a crowd come at once: the listener's backlog holds them.
const atATime = 64

// perAddress is how many members dial from one address: the kernel has some 28,000 ports for
// each, and some of them are still taken by connections that have ended.
const perAddress = 4000

// runCrowd is a crowd before an address: so many connections and streams. It says when it is
// complete, and for each line of its input whether it still is; the end of its input is its end.
func runCrowd(addr string, connections, streams int, nonce uint64) error {
	if _, err := allowFiles(connections + streams + 100); err != nil {
		return err
	}
	members := make([]*client, connections+streams)
	work := make(chan int)
	failed := make(chan error, atATime) // each worker says one error at most
	var workers sync.WaitGroup
	for range atATime {
		workers.Go(func() { // ends when work does, or with an error
			for i := range work {
				c := &client{
					ctx: context.Background(), addr: addr,
					from: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/perAddress))},
				}
				members[i] = c
				p := prompt{words: 1, nonce: nonce + uint64(i)}
				var err error
				if i < connections {
					err = c.ask(p, false, new(observer))
				} else {
					p.words, p.pause = 2, idlePause
					err = c.begin(p)
				}
				if err != nil {
					failed <- fmt.Errorf("member %d of %d: %w", i, len(members), err)
					return
				}
			}
		})
	}
	for i := range members {
		select {
		case work <- i:
		case err := <-failed:
			return err
		}
	}
	close(work)
	workers.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}

	fmt.Println("gathered")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if gone := missing(members); gone > 0 {
			fmt.Printf("%d of %d are gone\n", gone, len(members))
		} else {
			fmt.Println("all there")
		}
	}
	return nil
}

// begin asks for a stream and reads its first record.
func (c *client) begin(p prompt) error {
	c.request = p.appendRequest(c.request[:0], true)
	if _, err := c.send(chatPath, answerTimeout); err != nil {
		return err
	}
	record, err := c.body.next()
	if err != nil {
		return err
	}
	return p.checkContent(record, 0, 1)
}

// missing counts the connections that have ended, or on which something was said.
func missing(members []*client) int64 {
	var gone atomic.Int64
	var all sync.WaitGroup
	for _, c := range members {
		all.Go(func() { // ends after listenTime
			if !c.silent() {
				gone.Add(1)
			}
		})
	}
	all.Wait()
	return gone.Load()
}

// listenTime is long enough that the first read is tried before it is over, on a busy machine
// and with all members listening at once: a read that comes too late hears no end either.
const listenTime = time.Second

// silent tells whether nothing can be read, not even an end, but for what ends a chunk.
func (c *client) silent() bool {
	if end, _ := c.r.Peek(c.r.Buffered()); string(end) == "\r\n" {
		_, _ = c.r.Discard(len(end)) // it is buffered
	}
	if c.r.Buffered() > 0 {
		return false
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(listenTime)); err != nil {
		return false
	}
	_, err := c.r.Peek(1)
	var timeout net.Error
	return !errors.Is(err, io.EOF) && errors.As(err, &timeout) && timeout.Timeout()
}
