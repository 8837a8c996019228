//go:build !linux

package main

// allowFiles believes that the limit is high enough: the bench runs on Linux alone.
func allowFiles(want int) (int, error) { return want, nil }
