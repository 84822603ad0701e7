package frontend

import (
	"fmt"
	"net"
	"time"
)

// All of it stands in 127.66.0.0/16: members and back ends at .1, .2 and .3,
// proxies at .4.
const (
	lockAt    = "127.66.0.1:7399" // who listens there measures
	peerPort  = 7400
	apiPort   = 7401
	plainPort = 8080
	tlsPort   = 8443
)

// Hosts of a site.
const (
	hostMember  = 1
	hostGate    = 11
	hostBackend = 12
)

func at(site, host, port int) string { return fmt.Sprintf("127.66.%d.%d:%d", site, host, port) }

// proxyAt is where a proxy listens.
func proxyAt(host, port int) string { return at(4, host, port) }

// takeNetwork holds the addresses for this process.
func takeNetwork() (net.Listener, error) {
	l, err := net.Listen("tcp", lockAt)
	if err != nil {
		return nil, fmt.Errorf("take the addresses (does another benchmark run?): %w", err)
	}
	return l, nil
}

// listens reports whether somebody accepts connections at an address.
func listens(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
