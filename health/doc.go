// Package health looks at services and peers and says when the verdict about
// one of them changes.
//
// It has three layers, each usable alone:
//
//   - A [Probe] is one look at one thing: [TCP], [HTTP], [DNS], [Exec] and
//     [Peer] make them. A look opens a fresh connection, reads a bounded
//     amount, ends when its context does, and tells in its [Result] a refused
//     from a reset connection and both from silence.
//   - A [Detector] turns the results of one probe into a verdict and says when
//     to look next. It is pure: time and randomness come in as arguments.
//   - A [Monitor] runs many probes on their schedules, joins the checks of one
//     key (a service at a site, or a member) into one verdict, and delivers
//     only changes of it.
//
// # Verdicts
//
// A check is unknown until its first result. The first success makes it
// healthy, the first failure suspect, and fall failures in a row make it
// failed. A failed check is healthy again after rise successes in a row. A
// refused or reset connection is looked at again after a short delay (the
// second look) instead of the interval, until the verdict is clear; a look
// that timed out has already cost time and keeps the schedule.
//
// # What is no evidence
//
// What could not be seen is not failed (DESIGN.md, rule 4). A look that this
// process could not make (no descriptor, port or memory left, the check's
// command missing) has [ClassLocal]. So has one that this process made at the
// wrong time: a failure seen by a look that started later than planned by more
// than its interval and timeout, or any result that came long after the look's
// deadline, says that this process was stopped or starved (SIGSTOP, a paused
// machine, no free slot). Such looks never count as failures, and break a run
// of them; fall of them in a row make the verdict unknown, as if nothing had ever
// been seen.
//
// The schedule is kept on the monotonic clock, which a suspended machine and
// some paused ones stop: the first look after such a pause may count as one
// failure, never as more.
//
// # Limits
//
// A TCP probe sees the kernel's listen queue: a stopped process still accepts.
// Only a check that makes the service answer (http, dns, exec) sees it stop.
// One vantage's verdict is an opinion: who acts on it asks others first
// (DESIGN.md, rule 5).
package health
