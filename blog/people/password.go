package people

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Argon2id as OWASP has it: 19 MiB, two passes; about 50 ms of a core.
const (
	memoryKiB = 19 << 10
	passes    = 2
	lanes     = 1
	saltBytes = 16
	hashBytes = 32
)

// Bounds of what CheckPassword computes, whatever the stored text says: it came from a database, maybe from a backup
// of somebody else.
const (
	memoryLimitKiB = 64 << 10
	passesLimit    = 10
)

var errFormat = errors.New("a stored password is not an argon2id hash")

// hashPassword makes what is stored, in PHC format.
func hashPassword(password string) string {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	hash := argon2.IDKey([]byte(password), salt, passes, memoryKiB, lanes, hashBytes)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memoryKiB, passes, lanes, b64.EncodeToString(salt), b64.EncodeToString(hash))
}

// samePassword reports whether stored was made from password, by the parameters that it says.
func samePassword(stored, password string) (bool, error) {
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, errFormat
	}
	var memory, time uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads); err != nil {
		return false, errFormat
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, errFormat
	}
	hash, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(hash) < 16 || len(hash) > 64 || memory > memoryLimitKiB || time == 0 || time > passesLimit || threads == 0 {
		return false, errFormat
	}
	got := argon2.IDKey([]byte(password), salt, time, memory, threads, uint32(len(hash)))
	return subtle.ConstantTimeCompare(got, hash) == 1, nil
}

// hashing bounds how many passwords are computed at once: each takes 19 MiB and a core, and who has
// no password may ask for as many as they like.
type hashing chan struct{}

func (h hashing) do(ctx context.Context, work func()) error {
	select {
	case h <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h }()
	work()
	return nil
}
