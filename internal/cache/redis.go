package cache

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/replica"
)

const (
	// answerPrefix stands before the names of answers. The number is that of the layout: another
	// one does not see the answers of this one, nor stumbles over them.
	answerPrefix = "caddy-ollama:1:a:"

	// foreverShared is how long the second tier keeps what has no end: Redis may not evict at all.
	foreverShared = 30 * 24 * time.Hour

	// sharedOverhead bounds what an entry takes beside what its Size counts, in bytes: the form
	// it has outside, and the seal.
	sharedOverhead = 64 << 10
)

// A shared is the second tier: answers in Redis, where all gateways find them, sealed. Nothing it
// finds there is trusted. Safe for concurrent use.
type shared struct {
	client *replica.Client
	sealer *Sealer
	limit  int64 // bytes of one entry
	watch  func(event string)
}

// newShared makes a tier of a client that others share, too. Entries above limit (bytes, as
// Entry.Size counts them) are neither written nor read. watch is told "corrupt" of each answer
// that was there and is not sound.
func newShared(c *replica.Client, s *Sealer, limit int64, watch func(event string)) *shared {
	return &shared{client: c, sealer: s, limit: limit, watch: watch}
}

// get gives the answer under the key, nil if there is none. An error says that Redis did not
// tell.
func (s *shared) get(ctx context.Context, k call.Key) (*Entry, error) {
	return s.getNamed(ctx, s.sealer.KeyName(k))
}

// getNamed is get by the name of the key. What is there and is not sound (junk, cut short, of
// another version or secret, the answer to another key, prolonged) is none, and deleted.
func (s *shared) getNamed(ctx context.Context, name string) (*Entry, error) {
	sealed, err := s.read(ctx, name)
	if err != nil || len(sealed) == 0 {
		return nil, err
	}
	e, err := s.open(name, sealed)
	if err == nil {
		return e, nil
	}
	if err != ErrExpired { // Redis counts a moment longer now and then
		s.watch("corrupt")
	}
	// That is best effort: it is none, whether or not it goes.
	_ = s.deleteNamed(ctx, name)
	return nil, nil
}

// read gives what lies under the name, but no more of it than is needed to see that it is too
// long.
func (s *shared) read(ctx context.Context, name string) (sealed []byte, err error) {
	err = s.client.Do(ctx, "get", func(ctx context.Context, r redis.Cmdable) (err error) {
		sealed, err = r.GetRange(ctx, answerPrefix+name, 0, s.limit+sharedOverhead).Bytes()
		return err
	})
	if redis.HasErrorPrefix(err, wrongType) {
		return []byte("a list, a set or a hash"), nil // which no seal is
	}
	return sealed, err
}

func (s *shared) open(name string, sealed []byte) (*Entry, error) {
	if int64(len(sealed)) > s.limit+sharedOverhead {
		return nil, ErrCorrupt
	}
	plain, err := s.sealer.Open(name, sealed, time.Now())
	if err != nil {
		return nil, err
	}
	e, err := Unmarshal(plain)
	if err != nil {
		return nil, err
	}
	// The seal is bound to the name already. This is against our own mistakes.
	if s.sealer.KeyName(e.Meta.Key) != name {
		return nil, ErrCorrupt
	}
	return e, nil
}

// put sends an answer for others to find. keep is for how long it is of use; of 0 or less, or
// above the limit, it is not sent.
func (s *shared) put(ctx context.Context, e *Entry, keep time.Duration) error {
	if keep == call.Forever {
		keep = foreverShared
	}
	if keep <= 0 || int64(e.Size()) > s.limit {
		return nil
	}
	name := s.sealer.KeyName(e.Meta.Key)
	sealed := s.sealer.Seal(name, e.Marshal(), time.Now().Add(keep))
	if int64(len(sealed)) > s.limit+sharedOverhead {
		return nil // it would not be read
	}
	return s.client.Set(ctx, answerPrefix+name, sealed, keep)
}

// deleteNamed removes the answer to a key by its name, if there is one.
func (s *shared) deleteNamed(ctx context.Context, name string) error {
	return s.client.Delete(ctx, answerPrefix+name)
}

// refused tells whether Redis answered, and that was no.
func refused(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
