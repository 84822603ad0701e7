package demo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/draasd/draas"
)

// A demo lives in a /16 of the loopback addresses of its own: a site is a /24
// in it, so that both sites' services have the same port, as DNS can name no
// other. In 127.NET.SITE.0/24 stand:
//
//	.1        the member's own address (peer)
//	.2        its embedded DNS
//	.10       what users reach: a relay to the gate
//	.11       the gate: where the guard listens
//	.12       the service's process, behind the gate
//	.13       with the scheme hybrid the frontend, to which .10 leads then
//	.20       the DNS that users ask: a relay to .2
//	.101-.105 relays by which another member, or a frontend, reaches .1 and the gate
//
// With the scheme frontend it stands in a network beside them: users reach
// 127.NET.4.10.
const (
	hostPeer    = 1
	hostDNS     = 2
	hostUsers   = 10
	hostGate    = 11
	hostBackend = 12
	hostEdge    = 13
	hostNS      = 20
	hostVia     = 100
)

// The networks to choose from, 127.NET.0.0/16.
const (
	firstNet = 77
	lastNet  = 126
	// lockPort holds a network: who listens on 127.NET.0.1 owns it.
	lockPort = 7399
)

// network hands out the addresses of one demo.
type network struct {
	net  byte
	lock net.Listener
	// The ports are the same at all sites.
	peer, dns, web, api uint16
}

// takeNetwork finds a network that no other demo on this machine uses, and
// ports that nobody listens on at all addresses.
func takeNetwork() (*network, error) {
	var errs []error
	for n := byte(firstNet); n <= lastNet; n++ {
		lock, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, n, 0, 1}), lockPort).String())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w := &network{net: n, lock: lock}
		if err := w.choosePorts(); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		return w, nil
	}
	return nil, fmt.Errorf("find a free loopback network: %w", errors.Join(errs...))
}

func (w *network) close() error { return w.lock.Close() }

func (w *network) choosePorts() (err error) {
	if w.peer, err = w.freePort(7400, false, hostPeer, hostVia+1, hostVia+2, hostVia+3); err != nil {
		return err
	}
	if w.api, err = w.freePort(7401, false, hostPeer, hostVia+4, hostVia+5); err != nil {
		return err
	}
	if w.dns, err = w.freePort(7453, true, hostDNS, hostNS); err != nil {
		return err
	}
	w.web, err = w.freePort(8080, false, hostUsers, hostGate, hostBackend, hostEdge, hostVia+1, hostVia+2, hostVia+3, hostVia+4)
	return err
}

// freePort is the wanted port if nobody listens on it at these hosts of any
// site, or one that the kernel gives.
func (w *network) freePort(want uint16, udp bool, hosts ...byte) (uint16, error) {
	port := want
	var last error
	for range 20 {
		if last = w.free(port, udp, hosts); last == nil {
			return port, nil
		}
		ln, err := net.Listen("tcp", w.at(1, hosts[0], 0))
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		port = ln.Addr().(*net.TCPAddr).AddrPort().Port()
		if err := ln.Close(); err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}

func (w *network) free(port uint16, udp bool, hosts []byte) error {
	for site := byte(1); site <= byte(len(members()))+1; site++ {
		for _, host := range hosts {
			ln, err := net.Listen("tcp", w.at(site, host, port))
			if err != nil {
				return err
			}
			if err := ln.Close(); err != nil {
				return err
			}
			if !udp {
				continue
			}
			pc, err := net.ListenPacket("udp", w.at(site, host, port))
			if err != nil {
				return err
			}
			if err := pc.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *network) addr(site, host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{127, w.net, site, host})
}

func (w *network) at(site, host byte, port uint16) string {
	return netip.AddrPortFrom(w.addr(site, host), port).String()
}

// number is a member's place in the network.
func number(m draas.MemberID) byte {
	for i, id := range append(members(), edge, edgeDR) {
		if id == m {
			return byte(i + 1)
		}
	}
	return 0
}

func (w *network) peerOf(m draas.MemberID) string    { return w.at(number(m), hostPeer, w.peer) }
func (w *network) dnsOf(m draas.MemberID) string     { return w.at(number(m), hostDNS, w.dns) }
func (w *network) gateOf(m draas.MemberID) string    { return w.at(number(m), hostGate, w.web) }
func (w *network) backendOf(m draas.MemberID) string { return w.at(number(m), hostBackend, w.web) }

// What users reach, and whom they ask for it.
func (w *network) usersAddr(m draas.MemberID) netip.Addr { return w.addr(number(m), hostUsers) }
func (w *network) usersAt(m draas.MemberID) string       { return w.at(number(m), hostUsers, w.web) }
func (w *network) nsAddr(m draas.MemberID) netip.Addr    { return w.addr(number(m), hostNS) }
func (w *network) nsAt(m draas.MemberID) string          { return w.at(number(m), hostNS, w.dns) }

// By which relay one member reaches another, and its service.
func (w *network) peerVia(from, to draas.MemberID) string {
	return w.at(number(to), hostVia+number(from), w.peer)
}
func (w *network) gateVia(from, to draas.MemberID) string {
	return w.at(number(to), hostVia+number(from), w.web)
}

// By which relay a frontend reaches a member's API.
func (w *network) apiOf(m draas.MemberID) string { return w.at(number(m), hostPeer, w.api) }
func (w *network) apiVia(from, to draas.MemberID) string {
	return w.at(number(to), hostVia+number(from), w.api)
}

// serverAddr is by which relay a hybrid's frontends reach a gate, and entranceOf
// where that of a site listens.
func (w *network) serverAddr(m draas.MemberID) netip.Addr {
	return w.addr(number(m), hostVia+number(edge))
}
func (w *network) entranceOf(m draas.MemberID) string { return w.at(number(m), hostEdge, w.web) }

// edgeAt is where the frontend serves users.
func (w *network) edgeAt() string { return w.at(number(edge), hostUsers, w.web) }

// url is what users ask for: a name, or with a frontend, whose address never
// changes, that address.
func (w *network) url(scheme string) string {
	if scheme == schemeFrontend {
		return "http://" + w.edgeAt() + "/"
	}
	return "http://" + serviceName + ":" + strconv.Itoa(int(w.web)) + "/"
}
