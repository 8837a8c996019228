package cache

import (
	"context"
	"errors"
	"slices"
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

const (
	// vectorLimit bounds a vector in the second tier, in bytes: several times what the largest models
	// make.
	vectorLimit = 256 << 10
	// vectorsAtOnce is how many are read or written in one round trip, some 10 KB each.
	vectorsAtOnce = 128
)

// getAll gives the answers under some keys, nil where there is none or Redis did not tell. It takes
// one round trip, or one for each vectorsAtOnce of them; the first that fails is the last.
func (s *shared) getAll(ctx context.Context, keys []call.Key) []*Entry {
	all := make([]*Entry, len(keys))
	for from := 0; from < len(keys); from += vectorsAtOnce {
		to := min(from+vectorsAtOnce, len(keys))
		if s.getSome(ctx, keys[from:to], all[from:to]) != nil {
			break
		}
	}
	return all
}

func (s *shared) getSome(ctx context.Context, keys []call.Key, into []*Entry) error {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = s.sealer.KeyName(k)
	}
	var sealed [][]byte
	err := s.client.Do(ctx, "get", func(ctx context.Context, r redis.Cmdable) error {
		read, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, name := range names {
				p.GetRange(ctx, answerPrefix+name, 0, vectorLimit+sharedOverhead)
			}
			return nil
		})
		if err != nil && !refused(err) {
			return err
		}
		sealed = make([][]byte, 0, len(read))
		for _, one := range read {
			b, _ := one.(*redis.StringCmd).Bytes()
			if redis.HasErrorPrefix(one.Err(), wrongType) {
				b = []byte("a list, a set or a hash") // which no seal is
			}
			sealed = append(sealed, b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var junk []string
	for i, b := range sealed {
		if len(b) == 0 {
			continue
		}
		if into[i], err = s.open(names[i], b); err != nil {
			if err != ErrExpired {
				s.watch("corrupt")
			}
			junk = append(junk, answerPrefix+names[i])
		}
	}
	return s.client.Delete(ctx, junk...)
}

// putAll sends vectors for others to find, in as few round trips as getAll takes. Those above
// vectorLimit are not sent.
func (s *shared) putAll(ctx context.Context, entries []*Entry, keep time.Duration) error {
	if keep == call.Forever {
		keep = foreverShared
	}
	if keep <= 0 {
		return nil
	}
	limit := min(s.limit, vectorLimit)
	expires := time.Now().Add(keep)
	for some := range slices.Chunk(entries, vectorsAtOnce) {
		err := s.client.Do(ctx, "set", func(ctx context.Context, r redis.Cmdable) error {
			_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, e := range some {
					if int64(e.Size()) <= limit {
						name := s.sealer.KeyName(e.Meta.Key)
						p.Set(ctx, answerPrefix+name, s.sealer.Seal(name, e.Marshal(), expires), keep)
					}
				}
				return nil
			})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
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
