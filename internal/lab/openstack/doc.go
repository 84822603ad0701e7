// Package openstack starts real OpenStack sites for tests: Debian's Keystone,
// Glance, Neutron, Nova's and Cinder's API, Swift, and Designate with a named
// behind it, each site at a loopback address of its own, with no container, no
// broker and no systemd. Two sites are two clouds that know nothing of each
// other.
//
// Nothing runs behind the APIs: no servers, no volumes, no agents. What is
// replicated are rows and files, and those are real.
package openstack
