// Package manage changes the models of many nodes as if they were one.
package manage

import (
	"net/http"
	"net/url"
)

// A Node is what management needs of one.
type Node interface {
	Name() string
	URL() *url.URL
	RoundTrip(*http.Request) (*http.Response, error)
}
