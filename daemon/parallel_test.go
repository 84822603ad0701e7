//go:build !race

package daemon

// labsAtOnce is how many tests run in parallel: a cluster mostly waits, and
// four of them keep less than two cores busy.
const labsAtOnce = "4"
