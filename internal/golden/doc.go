// Package golden is test support: it holds recorded requests and raw answers of a real Ollama server, sends the
// requests again over a bare connection, and compares what comes back.
//
// It knows what in an answer is the server's (status, headers, framing, the order and type of every key, error texts,
// the small vocabulary of roles and reasons) and what is a model's or the clock's and cannot be equal (text, counts,
// vectors, times, ids). The first is compared exactly, the second by type.
package golden
