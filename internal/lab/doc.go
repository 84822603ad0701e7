// Package lab makes machines out of namespaces, for tests that need hosts of
// their own: a network, mounts, and processes that end with the test. Its own
// test is that of the installation: the shipped failover.toml, the shipped
// units and the commands of docs/quickstart.md, on three such machines.
package lab
