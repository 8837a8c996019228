package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-ollama/caddy-ollama/internal/replica"
)

const (
	// purgePrefix stands before the name of the hash that holds the versions. All is in one key,
	// so that an eviction or a flush takes all of it, which is noticed.
	purgePrefix = "caddy-ollama:1:p:"
	// markField is the field that tells whether the rest has changed: the epoch, a point, and
	// something random that each push replaces. All other fields are names of scopes.
	markField = "mark"

	// syncEvery is about how often Redis is asked. Others obey a purge within a second.
	syncEvery = 500 * time.Millisecond
	// pageSize is how many versions go to and fro in one command: a few ms, in 50 ms of budget.
	pageSize = 1000
)

// wrongType is in Redis's reply where something else lies than was expected.
const wrongType = "WRONGTYPE"

// lua is what both scripts begin with. ARGV[1] is random, ARGV[2] the pusher's epoch.
const lua = `
local mark = redis.call('HGET', KEYS[1], 'mark')
local epoch = tonumber(mark and string.match(mark, '^(%d+)%.')) or 0
epoch = math.max(epoch, tonumber(ARGV[2]))
local function version(name)
	local v = tonumber(redis.call('HGET', KEYS[1], name) or nil)
	if not v or v > 2^53 then return 0 end -- junk
	return v
end
`

var (
	// pushScript raises the versions in ARGV, which are name, version, base from the third on,
	// and replaces the mark. A version that meets another than its base rises above both. It returns the mark there was ('' if the pusher does not know all versions that
	// it made) and the mark now.
	pushScript = lua + `
for i = 3, #ARGV, 3 do
	local have, new, base = version(ARGV[i]), tonumber(ARGV[i+1]), tonumber(ARGV[i+2])
	if base > 2^53 then
		if have < new then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i+1]) end
	elseif have == base then
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i+1])
	else
		redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', math.max(have, new) + 1))
		mark = false
	end
end
local now = string.format('%.0f', epoch) .. '.' .. ARGV[1]
redis.call('HSET', KEYS[1], 'mark', now)
return {mark or '', now}
`
	// forgetScript leaves nothing but the scope named ARGV[3], at a version that nobody has: above
	// ARGV[4], for answers may have that already which are from before purges dropped here. It
	// returns that version and the new mark.
	forgetScript = lua + `
local all = math.max(version(ARGV[3]), tonumber(ARGV[4])) + 1
epoch = epoch + 1
local now = string.format('%.0f', epoch) .. '.' .. ARGV[1]
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[3], string.format('%.0f', all), 'mark', now)
return {string.format('%.0f', all), now}
`
)

// allowOOM lets a script write also where Redis is full: a purge that is not told would leave old
// answers in use elsewhere, and takes a hundred bytes. Redis knows that line since 7.0.
const allowOOM = "#!lua flags=allow-oom\n"

// run keeps the versions here and those in Redis the same until ctx ends.
func (p *purges) run(ctx context.Context, c *replica.Client) {
	for {
		_ = p.sync(ctx, c) // what failed stays pending, and current tells the rest
		wait := time.NewTimer(syncEvery*4/5 + rand.N(syncEvery*2/5))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-p.stirs:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// sync tells Redis what is pending, and takes over what others purged. When nothing changed it is
// one command. An error says that something is still pending, or that others' purges are not
// known; a Redis that refuses to write can still be read, and then it is the former only.
func (p *purges) sync(ctx context.Context, c *replica.Client) error {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	began := max(1, time.Since(p.born)) // 1: 0 is never
	untold := p.push(ctx, c)
	if untold != nil && !refused(untold) {
		return untold
	}
	if err := p.pull(ctx, c); err != nil {
		return fmt.Errorf("read purges from redis: %w", err)
	}
	p.synced.Store(int64(began))
	if untold == nil || strings.Contains(untold.Error(), wrongType) {
		untold = p.push(ctx, c) // what pull found missing
	}
	return untold
}

// push tells Redis what is pending. p.syncing is held.
func (p *purges) push(ctx context.Context, c *replica.Client) error {
	if all, epoch, ok := p.forgets(); ok {
		risen, mark, err := p.eval(ctx, c, forgetScript, epoch, []any{p.all, all})
		if err != nil {
			return fmt.Errorf("have redis forget purges: %w", err)
		}
		p.forgotten(version(risen), markEpoch(mark))
		p.seen = mark // there is nothing else
	}
	for {
		batch, epoch := p.batch(pageSize)
		if len(batch) == 0 {
			return nil
		}
		before, mark, err := p.eval(ctx, c, pushScript, epoch, flatten(batch))
		if err != nil {
			return fmt.Errorf("push purges to redis: %w", err)
		}
		p.pushed(batch)
		if before != "" && before == p.seen && markEpoch(mark) == markEpoch(before) {
			p.seen = mark // nobody else changed anything
		} else {
			p.seen = ""
		}
	}
}

// eval runs a script on the hash. It gives the two strings that both return, the second of which
// is the mark now.
func (p *purges) eval(ctx context.Context, c *replica.Client, script string, epoch uint64, args []any) (first, mark string, err error) {
	args = append([]any{strconv.FormatUint(rand.Uint64(), 36), epoch}, args...)
	var reply []string
	err = c.Do(ctx, "push", func(ctx context.Context, r redis.Cmdable) (err error) {
		reply, err = r.Eval(ctx, allowOOM+script, []string{p.key()}, args...).StringSlice()
		if err != nil && strings.Contains(err.Error(), "compil") { // before 7.0
			reply, err = r.Eval(ctx, script, []string{p.key()}, args...).StringSlice()
		}
		return err
	})
	if err == nil && len(reply) != 2 {
		err = fmt.Errorf("%d results of the script, want 2", len(reply))
	}
	if err != nil {
		return "", "", err
	}
	return reply[0], reply[1], nil
}

// pull takes over what Redis has, if that has changed. p.syncing is held.
func (p *purges) pull(ctx context.Context, c *replica.Client) error {
	mark, err := p.mark(ctx, c)
	if err != nil || mark != "" && mark == p.seen {
		return err
	}
	// The mark is older than what is read now, so what changes meanwhile shows in the next one.
	theirs := make(map[string]uint64)
	for cursor := uint64(0); mark != ""; {
		var page []string
		err := c.Do(ctx, "sync", func(ctx context.Context, r redis.Cmdable) (err error) {
			page, cursor, err = r.HScan(ctx, p.key(), cursor, "", pageSize).Result()
			return err
		})
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(page); i += 2 {
			if v := version(page[i+1]); v != 0 && page[i] != markField {
				theirs[page[i]] = v
			}
		}
		if cursor == 0 || len(theirs) > p.limit { // more than that is forgotten anyway
			break
		}
	}
	p.merge(theirs, markEpoch(mark))
	p.seen = mark
	return nil
}

// mark is that of the hash, "" if there is none.
func (p *purges) mark(ctx context.Context, c *replica.Client) (mark string, err error) {
	err = c.Do(ctx, "sync", func(ctx context.Context, r redis.Cmdable) (err error) {
		mark, err = r.HGet(ctx, p.key(), markField).Result()
		return err
	})
	switch {
	case err == replica.ErrMissing:
		return "", nil
	case redis.HasErrorPrefix(err, wrongType):
		return "", c.Delete(ctx, p.key()) // junk: all of it is pushed again
	}
	return mark, err
}

// key is that of the hash. Deployments with other secrets have others.
func (p *purges) key() string { return purgePrefix + p.sealer.Name("purges") }

func markEpoch(mark string) uint64 {
	epoch, _, _ := strings.Cut(mark, ".")
	return version(epoch)
}

// version reads a number that Redis gave; 0 for junk.
func version(text any) uint64 {
	s, _ := text.(string)
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v > versionLimit {
		return 0
	}
	return v
}
