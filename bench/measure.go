package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// percentile is the smallest of the sorted values that q of them (0 to 1) do not exceed, 0
// without values.
func percentile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median leaves out what is no number, and is none if nothing is left.
func median(values []float64) float64 {
	known := numbers(values)
	switch n := len(known); {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return known[n/2]
	default:
		return (known[n/2-1] + known[n/2]) / 2
	}
}

// numbers are the values that are some, sorted.
func numbers(values []float64) []float64 {
	known := make([]float64, 0, len(values))
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			known = append(known, v)
		}
	}
	slices.Sort(known)
	return known
}

// A usage is what processes have taken so far, added up.
type usage struct {
	cpu time.Duration
	rss int64 // bytes, now
	top int64 // bytes, the most since resetTop
}

// tick is what /proc counts CPU time in, whatever the kernel counts in.
const tick = time.Second / 100

// usageOf reads what the processes have taken.
func usageOf(pids []int) (u usage, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return usage{}, err
		}
		cpu, err := parseStat(stat)
		if err != nil {
			return usage{}, err
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return usage{}, err
		}
		u.cpu += cpu
		u.rss += parseStatus(status, "VmRSS:")
		u.top += parseStatus(status, "VmHWM:")
	}
	return u, nil
}

// resetTop makes the processes count their most memory anew.
func resetTop(pids []int) error {
	for _, pid := range pids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

// parseStat takes the CPU time, user and system, out of /proc/PID/stat.
func parseStat(stat []byte) (time.Duration, error) {
	// The name, which is in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system = 14 - 3, 15 - 3 // numbered from 1 in proc(5), and state is the 3rd
	if len(fields) <= system {
		return 0, fmt.Errorf("no times in %q", stat)
	}
	var ticks int64
	for _, f := range [][]byte{fields[user], fields[system]} {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("no times in %q", stat)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// parseStatus takes a size in bytes out of /proc/PID/status, 0 if it is not there.
func parseStatus(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			kB, _ := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
			return kB << 10
		}
	}
	return 0
}

// busyTime is what all processors of the machine have been busy for, for whomever.
func busyTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(stat)
}

// share is what busyTime has grown by, as a part of all cores.
func share(busy, lasted time.Duration) float64 {
	return busy.Seconds() / lasted.Seconds() / float64(runtime.NumCPU())
}

// parseBusy adds up the first line of /proc/stat, without the time that was idle.
func parseBusy(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	const user, idle, iowait, steal = 1, 4, 5, 8 // guests are in user already
	if len(fields) <= steal || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("no times in %q", line)
	}
	var ticks int64
	for i := user; i <= steal; i++ {
		if i == idle || i == iowait {
			continue
		}
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("no times in %q", line)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}
