//go:build race

package stream

// raced is whether the race detector is in, which takes memory of its own.
const raced = true
