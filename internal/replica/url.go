package replica

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// allowed are the options a URL may have, as go-redis spells them. Times and retries are not among
// them: the budget is for all of an operation.
var allowed = []string{"client_name", "conn_max_idle_time", "conn_max_lifetime", "db", "pool_size", "protocol", "skip_verify"}

// poolLimit bounds pool_size: each connection has two buffers of 32 KiB.
const poolLimit = 4096

// Check tells what Open would not take of a URL. What it says repeats no part of the URL: a
// password that is not escaped may stand anywhere in it.
func Check(url string) error {
	_, err := parse(url)
	return err
}

func parse(raw string) (*redis.Options, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the URL of Redis cannot be read; write redis://user:password@host:port/0, " +
			"with %-escapes for what is neither letter nor digit in the password")
	}
	switch {
	case u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		return nil, errors.New("the URL of Redis must begin with redis://, rediss:// (TLS) or unix://")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("the URL of Redis has a #; in a password write %23")
	case u.Opaque != "":
		return nil, fmt.Errorf("the URL of Redis must begin with %s://", u.Scheme)
	case u.Scheme == "unix" && (u.Host != "" || !strings.HasPrefix(u.Path, "/")):
		return nil, errors.New("the URL of Redis needs the absolute path of the socket: unix:///run/redis.sock")
	case u.Scheme != "unix" && u.Hostname() == "":
		return nil, errors.New("the URL of Redis has no host")
	case u.Scheme != "unix" && !isNumber(strings.Trim(u.Path, "/")):
		return nil, errors.New("the path of the URL of Redis must be the number of a database, " +
			"as in redis://host:6379/0; a / in a password is written %2F")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the options in the URL of Redis cannot be read")
	}
	for name := range query {
		if !slices.Contains(allowed, name) {
			return nil, fmt.Errorf("the URL of Redis has an option that is not known here; there are %s", strings.Join(allowed, ", "))
		}
	}
	if !isNumber(query.Get("db")) {
		return nil, errors.New("db in the URL of Redis must be the number of a database")
	}
	o, err := redis.ParseURL(raw)
	if err != nil {
		return nil, errors.New("an option in the URL of Redis has no value it can have, or is not for this scheme")
	}
	if o.PoolSize < 0 || o.PoolSize > poolLimit {
		return nil, fmt.Errorf("pool_size in the URL of Redis must be between 1 and %d", poolLimit)
	}
	return o, nil
}

// isNumber takes nothing for a number, too.
func isNumber(s string) bool {
	if s == "" {
		return true
	}
	_, err := strconv.ParseUint(s, 10, 31)
	return err == nil
}
