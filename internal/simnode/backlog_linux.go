package simnode

import (
	"net"
	"syscall"
)

// setBacklog changes how many connections may wait to be accepted: the kernel lets a socket listen once more.
func setBacklog(l *net.TCPListener, n int) {
	raw, err := l.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), n) })
}
