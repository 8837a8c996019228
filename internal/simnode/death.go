package simnode

import (
	"context"
	"errors"
	"time"
)

// errDied is why a request ended whose node died or was closed.
var errDied = errors.New("the simulated node died")

// Kill ends the node as a SIGKILL or a crash of the server does: every connection is cut at once, and the runners stay
// behind and hold their memory, of which a restarted node knows nothing. Until it is back connections are refused by a
// Server and a Pipe, and cut by any other server. It comes back after Options.Restart, or by Restart.
func (n *Node) Kill() { n.die(true, n.opts.Restart) }

// Terminate is Kill by SIGTERM: the same without a farewell, but the runners end, too.
func (n *Node) Terminate() { n.die(false, n.opts.Restart) }

// Restart brings a dead node back, without loaded models. The installed ones and the counts are as they were.
func (n *Node) Restart() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.restartLocked()
}

// ReapOrphans ends the runners that dead nodes left behind, as an administrator does.
func (n *Node) ReapOrphans() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Orphaned = 0
}

// die ends the node; after restart, unless that is 0, it is back.
func (n *Node) die(orphans bool, restart time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down || n.closed {
		return
	}
	n.down = true
	n.stats.Deaths++
	for weights, r := range n.runners {
		r.dropLocked()
		delete(n.runners, weights)
		if orphans {
			n.stats.Orphaned += r.memory
		}
	}
	n.end(errDied)
	n.changedLocked()
	if restart <= 0 {
		return
	}
	n.running.Add(1) // given back by the timer, or by Close when that stops it
	n.revival = time.AfterFunc(restart, func() {
		defer n.running.Done()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.revival = nil
		n.restartLocked()
	})
}

func (n *Node) restartLocked() {
	if !n.down || n.closed {
		return
	}
	n.cancelRevivalLocked()
	n.down = false
	n.births++
	n.life, n.end = context.WithCancelCause(context.Background())
	n.changedLocked()
}

func (n *Node) cancelRevivalLocked() {
	if n.revival != nil && n.revival.Stop() {
		n.running.Done()
	}
	n.revival = nil
}

// dropLocked forgets a runner whose process, or whose node, is no more. The caller takes it off the list.
func (r *runner) dropLocked() {
	r.disarmLocked()
	r.dropped = true
	close(r.gone)
}
