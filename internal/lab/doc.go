// Package lab holds the test of the installation: the shipped failover.toml,
// the shipped units and the commands of docs/quickstart.md, on three machines
// made of namespaces.
package lab
