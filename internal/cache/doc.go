// Package cache is the step that gives a call the answer that an equal one had.
//
// Never a wrong answer: whatever can change one is in the key, the key's text is kept with the
// answer and compared, and an answer is stored only when it is complete. Never a failed call:
// trouble with a store is a miss. Policy says per call whether and for how long; the engine owns
// one Cache, which keeps its memory over reloads, and each configuration makes its steps of it.
package cache
