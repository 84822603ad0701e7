// Package nameserver starts real name servers for tests: BIND, Knot and
// PowerDNS, each on a loopback address of its own, primary of one zone that a
// key may change by DNS UPDATE, with secondaries if wanted; and Fake, one in
// memory for tests that need speed. Relay stands between a client and any of
// them and loses, holds or answers messages.
//
// The lines that an operator needs are in conf/, and docs/dns.md shows the same
// text (a test compares them).
package nameserver
