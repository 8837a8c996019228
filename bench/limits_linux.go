package main

import "syscall"

// allowFiles asks for so many open files, for this process and its children, and gives how
// many there may be. It tells the limit that holds when more are not allowed.
func allowFiles(want int) (int, error) {
	var have syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &have); err != nil {
		return 0, err
	}
	if have.Cur >= uint64(want) && have.Max >= uint64(want) {
		// Set all the same: the runtime has raised the soft limit, and would give children the old one.
		return want, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &have)
	}
	raised := syscall.Rlimit{Cur: uint64(want), Max: max(have.Max, uint64(want))}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		return want, nil
	}
	// Only root may raise the hard limit.
	have.Cur = have.Max
	return int(have.Max), syscall.Setrlimit(syscall.RLIMIT_NOFILE, &have)
}
