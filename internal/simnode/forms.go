package simnode

import (
	"strconv"
	"strings"
)

// newestForms reports whether a node of this version speaks the newest forms, or else those of 0.24.0. A real server
// took them up one by one between 0.30.0 (the fields of /api/tags), 0.32.6 (the streams of chats, no image routes) and
// 0.32.11 (the steps of reasoning_effort); here all of them come with 0.30.
func newestForms(version string) bool {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(major)
	y, errY := strconv.Atoi(minor)
	return errX == nil && errY == nil && (x > 0 || y >= 30)
}
