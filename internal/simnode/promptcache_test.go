package simnode_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// reading asks model a for one token and gives how long it read the prompt: 10 ms a token that
// it did not know.
func (b *bubble) reading(prompt string) time.Duration {
	b.Helper()
	return b.post("/api/generate", `{"model":"a","prompt":"`+prompt+`","options":{"num_predict":1,"temperature":0}}`).last(b.T).PromptTime
}

func TestPromptCache_WhatASlotForgetsIsFoundAgain(t *testing.T) {
	river, boat := strings.Repeat(" river", 196), strings.Repeat(" boat", 196)
	for _, c := range []struct {
		name   string
		tokens int
		longer time.Duration
	}{
		{"none", 0, 1900 * time.Millisecond},
		{"room for one", 250, 0},
		{"too little room", 150, 1900 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, simnode.Options{PromptCache: c.tokens}, func(t *testing.T, b *bubble) {
				b.post("/api/generate", load)
				for _, prompt := range []string{river, boat} {
					if took := b.reading(prompt); took < 1900*time.Millisecond {
						t.Errorf("a new prompt was read in %v", took)
					}
				}
				if took := b.reading(river); took < c.longer || c.longer == 0 && took > 50*time.Millisecond {
					t.Errorf("the first prompt was read again in %v", took)
				}
				if took := b.reading(river + " boat"); took > 50*time.Millisecond {
					t.Errorf("what the slot has was read again in %v", took)
				}
			})
		})
	}
}

func TestPromptCache_KeepsTheLatest(t *testing.T) {
	inBubble(t, simnode.Options{PromptCache: 450}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		var prompts []string
		for _, word := range []string{" river", " boat", " bridge", " garden"} {
			prompts = append(prompts, strings.Repeat(word, 196))
			b.reading(prompts[len(prompts)-1])
		}
		// The slot has the fourth, the cache the second and the third.
		for _, i := range []int{1, 2} {
			if took := b.reading(prompts[i]); took > 50*time.Millisecond {
				t.Errorf("prompt %d was read again in %v", i, took)
			}
		}
		if took := b.reading(prompts[0]); took < 1900*time.Millisecond {
			t.Errorf("the oldest prompt is still known: %v", took)
		}
	})
}

func TestStats_CountTheTokensThatWereKnown(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		long := strings.Repeat(" river", 196)
		b.reading(long)
		if s := b.node.Stats(); s.PromptTokens != 200 || s.PrefixTokens > 1 {
			t.Errorf("%d tokens, %d known; want 200 and no more than the first", s.PromptTokens, s.PrefixTokens)
		}
		b.reading(long + " boat")
		if s := b.node.Stats(); s.PromptTokens != 401 || s.PrefixTokens < 190 || s.PrefixTokens > 200 {
			t.Errorf("%d tokens, %d known; want 401 and the common ones", s.PromptTokens, s.PrefixTokens)
		}
	})
}
