package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Gateways take the address and the secret from their environment, as everybody's should.
const (
	redisEnv  = "BENCH_REDIS"
	secretEnv = "BENCH_SECRET"
)

// noRedis says why there is no redis-server, "" if there is one.
func noRedis() string {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return "redis-server is not installed"
	}
	return ""
}

// startRedis starts a redis-server that keeps nothing on disk, and returns when it answers.
func (f *fleet) startRedis(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	dir := filepath.Join(f.dir, "redis-server")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log := filepath.Join(f.dir, "redis-server.log") // redis.log is that of the peer
	proc, err := startProcess(log, f.lost, nil, "redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--dir", dir, "--logfile", log, "--save", "", "--appendonly", "no", "--daemonize", "no")
	if err != nil {
		return err
	}
	f.running = append(f.running, proc)
	f.redis = fmt.Sprintf("127.0.0.1:%d", port)
	if err := f.redisHolds(ctx, 0); err != nil {
		return fmt.Errorf("redis-server: %w\n%s", err, tail(log))
	}
	return nil
}

// errNotInRedis says that a gateway gave up bringing answers there. It does so when Redis does not
// answer in time, which on a busy machine means little.
var errNotInRedis = errors.New("not all answers came to Redis in time; the cores were too busy")

// redisHolds waits until the redis-server has so many keys: gateways bring answers there behind
// the backs of clients.
func (f *fleet) redisHolds(ctx context.Context, keys int) error {
	// 5 s: each answer has 50 ms to get there, and then there is no second try.
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errNotInRedis)
	defer cancel()
	for {
		n, err := redisSize(ctx, f.redis)
		if err == nil && n >= keys {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it has %d keys, and should have %d", n, keys)
		}
		if cause := sleepUntil(ctx, time.Now().Add(20*time.Millisecond)); cause != nil {
			return fmt.Errorf("%w: %w", cause, err)
		}
	}
}

// redisSize asks how many keys there are.
func redisSize(ctx context.Context, addr string) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return 0, err
	}
	if _, err := conn.Write([]byte("DBSIZE\r\n")); err != nil {
		return 0, err
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return 0, err
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(reply), ":")
	if !ok {
		return 0, fmt.Errorf("DBSIZE: %q", reply)
	}
	return strconv.Atoi(number)
}
