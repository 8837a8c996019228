//go:build !linux

package simnode

import "net"

// setBacklog does nothing: elsewhere connections to a socket that does not accept wait in its backlog.
func setBacklog(*net.TCPListener, int) {}
