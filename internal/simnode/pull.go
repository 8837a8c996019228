package simnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

var errDigestMismatch = errors.New("digest mismatch, file must be downloaded again")

// pullModel loads a model from the registry in its name: the layers that the node lacks, one after the other.
func (n *Node) pullModel(ctx context.Context, as name, insecure bool, p *progress) error {
	n.mu.Lock()
	old := n.models[as.key()]
	n.mu.Unlock()
	if old != nil {
		as = old.name // the spelling stays
	}
	from := n.remoteOf(as, insecure)
	p.say("pulling manifest")
	raw, err := from.manifest(ctx)
	var mf manifest
	if err == nil {
		err = json.Unmarshal(raw, &mf)
	}
	if err != nil {
		return fmt.Errorf("pull model manifest: %w", err)
	}
	fresh := make(map[string]bool)
	for _, l := range mf.all() {
		isNew, err := n.pullLayer(ctx, from, l.Digest, p)
		if err != nil {
			return err
		}
		fresh[l.Digest] = isNew
	}
	p.say("verifying sha256 digest")
	for digest, isNew := range fresh {
		if isNew {
			if err := n.verify(digest); err != nil {
				return err
			}
		}
	}
	p.say("writing manifest")
	unused, err := n.instal(as, raw)
	if err != nil {
		return err
	}
	if unused {
		p.say("removing unused layers")
	}
	p.say("success")
	return nil
}

// pullLayer loads a layer, or waits until somebody else's pull has, unless the node has it.
func (n *Node) pullLayer(ctx context.Context, from remote, digest string, p *progress) (fresh bool, err error) {
	hex, ok := splitDigest(digest)
	if !ok {
		return false, errDigestFormat
	}
	n.mu.Lock()
	f, ok := n.files[hex]
	n.mu.Unlock()
	if ok {
		p.of("pulling", digest, f.Size, f.Size)
		return false, nil
	}
	t, err := n.download(ctx, from, digest)
	if err != nil {
		return false, err
	}
	defer n.leaveDownload(t)
	return true, p.watch(ctx, "pulling", digest, t)
}

// verify forgets a layer that is not what it was taken for.
func (n *Node) verify(digest string) error {
	hex, _ := splitDigest(digest)
	n.mu.Lock()
	defer n.mu.Unlock()
	f, ok := n.files[hex]
	if !ok || f.Digest == hex { // one that somebody deletes meanwhile is missed later
		return nil
	}
	n.removeFileLocked(hex)
	return fmt.Errorf("%w: want %s, got sha256:%s", errDigestMismatch, digest, f.Digest)
}

// instal makes a manifest a model of the node, in the place of one with that name. It tells whether that had layers
// which nobody needs any more; they are gone.
func (n *Node) instal(as name, raw []byte) (unused bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m, err := n.assembleLocked(as, raw)
	if err != nil {
		return false, err
	}
	old := n.models[as.key()]
	n.models[as.key()] = m
	return old != nil && n.pruneLocked(old.manifest.all()), nil
}
