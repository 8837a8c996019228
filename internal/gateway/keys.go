package gateway

import (
	"errors"
	"net/http"
	"strings"
)

// Faults of who asks, on a site with keys. None of them holds what was presented.
var (
	errKeyMissing = errors.New("no API key")
	errKeyUnknown = errors.New("API key is unknown")
	errKeysMany   = errors.New("more than one API key")
)

// identify finds out whose key the request presents: the verified name is the tenant. A site
// without keys knows nobody, and its tenant is "".
func (q *request) identify() (tenant string, err error) {
	if q.site.keys == nil {
		return "", nil
	}
	secret, err := credential(q.r.Header)
	if err != nil {
		return "", err
	}
	tenant, ok := q.site.keys.Lookup(secret)
	if !ok {
		return "", errKeyUnknown
	}
	return tenant, nil
}

// credential is the one key in the headers of a request, as OpenAI's or as Anthropic's
// clients send it. Two are refused even if they are equal: whatever else reads the request
// might take the other one. An empty header presents nothing.
func credential(h http.Header) (string, error) {
	presented := 0
	secret := ""
	for _, value := range h["Authorization"] {
		if value = strings.TrimSpace(value); value == "" {
			continue
		}
		presented++
		if scheme, rest, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "Bearer") {
			if secret = strings.TrimSpace(rest); secret == "" {
				presented--
			}
		}
	}
	for _, value := range h["X-Api-Key"] {
		if value = strings.TrimSpace(value); value != "" {
			presented++
			secret = value
		}
	}
	switch {
	case presented > 1:
		return "", errKeysMany
	case secret == "":
		return "", errKeyMissing
	}
	return secret, nil
}

// keyRefusal words the refusals of keys.
func keyRefusal(err error) (refusal, bool) {
	switch {
	case errors.Is(err, errKeyMissing):
		return refusal{status: http.StatusUnauthorized, early: true, message: "an API key is needed here; send it as Authorization: Bearer KEY, or as x-api-key: KEY"}, true
	case errors.Is(err, errKeyUnknown):
		return refusal{status: http.StatusUnauthorized, early: true, message: "the API key is not known here; check it, or ask the operator of this gateway"}, true
	case errors.Is(err, errKeysMany):
		return refusal{status: http.StatusBadRequest, early: true, message: "there is more than one API key in the request; send one, either as Authorization: Bearer KEY or as x-api-key: KEY"}, true
	}
	return refusal{}, false
}
