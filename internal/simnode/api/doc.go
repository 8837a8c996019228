// Package api has the requests of a node's native routes as a node decodes them. The names of the package, its types
// and its fields stand in encoding/json's error messages, which clients see, so they follow those of a real server.
package api
