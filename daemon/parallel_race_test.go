//go:build race

package daemon

// labsAtOnce: with the race detector two clusters keep the machine busy.
const labsAtOnce = ""
