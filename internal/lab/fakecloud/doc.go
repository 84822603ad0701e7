// Package fakecloud is an OpenStack cloud in memory: one HTTP server on
// loopback which answers as Keystone, Glance, Neutron, Nova, Cinder, Swift
// and Designate do (release Zed), keeps what it is given, and fails on demand.
//
// Its facts are those measured on real services; package cloudtest holds them
// as functions of gophercloud clients, so that the fake and a real cloud run
// the same suite. Where the two differ the fake is wrong.
//
// Start gives a cloud with an administrator; Cloud.YAML is the clouds.yaml
// that leads to it. Inject makes requests fail, OnRequest watches them,
// Requests counts them. Seed fills it without HTTP, and Dump shows its state
// without ids and times, so that two clouds can be compared.
//
// It is no simulator of behaviour beyond the APIs: there are no agents, no
// servers, no volumes; only what a replication of resources reads and writes.
package fakecloud
