package blog

import "time"

// An Author writes posts. Name is what they sign in with: lower case, never shown to readers.
type Author struct {
	ID       int64
	Name     string
	Shown    string // as readers see it
	Password string // its hash in PHC format; empty: cannot sign in by password
	Created  time.Time
}

// A TokenHash is the SHA-256 of a random token. Tokens themselves are never stored: who reads the
// database, or a backup, cannot sign in with what is there.
type TokenHash [32]byte

// A Session is a signed-in author.
type Session struct {
	Hash    TokenHash
	Author  int64
	Created time.Time
	Expires time.Time
}

// A OneTimeLink signs an author in once: the first, or one who forgot the password.
type OneTimeLink struct {
	Hash    TokenHash
	Author  int64
	Expires time.Time
}

// Attempts are failed logins since the last good one.
type Attempts struct {
	Failures int
	Last     time.Time // of the last failure
}
