package lan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"golang.org/x/sys/unix"
)

// The rtnetlink messages that are needed (rtnetlink(7)) are few and fixed:
// struct ifinfomsg and struct ifaddrmsg, and a handful of attributes.
const (
	linkHeader    = 16 // struct ifinfomsg
	addressHeader = 8  // struct ifaddrmsg
	routeHeader   = 12 // struct rtmsg
	etherType     = 1  // ARPHRD_ETHER
	// skipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: counters make
	// up most of a listing.
	skipStats = 1 << 3
	// forever is an address's lifetime without end (struct ifa_cacheinfo).
	forever = 1<<32 - 1
)

// link is an interface.
type link struct {
	index int
	name  string
	up    bool             // set up, and with a carrier
	mac   net.HardwareAddr // nil: it is not like Ethernet
}

// placed is an address on an interface.
type placed struct {
	index int
	addr  netip.Prefix
}

// interfaces are those of this host with their addresses, as of one look.
type interfaces struct {
	links map[string]link // by name
	addrs []placed
}

// has reports whether an address stands on an interface.
func (i interfaces) has(index int, addr netip.Addr) bool {
	for _, p := range i.addrs {
		if p.index == index && p.addr.Addr() == addr {
			return true
		}
	}
	return false
}

// covers reports whether an interface has another address in the network of p:
// then there is a route to that network already.
func (i interfaces) covers(index int, p netip.Prefix) bool {
	for _, o := range i.addrs {
		if o.index == index && o.addr.Addr() != p.Addr() && o.addr.Bits() <= p.Bits() && o.addr.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// ours reports whether a MAC address is one of this host's.
func (i interfaces) ours(mac net.HardwareAddr) bool {
	for _, l := range i.links {
		if bytes.Equal(l.mac, mac) {
			return true
		}
	}
	return false
}

// router talks with the kernel about interfaces and addresses. It is not safe
// for concurrent use.
type router struct {
	conn *netlink.Conn
}

func (r *router) ask(kind uint16, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	if r.conn == nil {
		conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
		if err != nil {
			return nil, fmt.Errorf("open netlink: %w", err)
		}
		r.conn = conn
	}
	msgs, err := r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags}, Data: data})
	var refused *netlink.OpError
	if err != nil && !(errors.As(err, &refused) && refused.Op == "receive") {
		r.letGo()
	}
	return msgs, err
}

func (r *router) letGo() {
	if r.conn != nil {
		_ = r.conn.Close() // nothing is under way
		r.conn = nil
	}
}

// look lists interfaces and addresses.
func (r *router) look() (interfaces, error) {
	found := interfaces{links: make(map[string]link)}
	mask := netlink.NewAttributeEncoder()
	mask.Uint32(unix.IFLA_EXT_MASK, skipStats)
	attrs, err := mask.Encode()
	if err != nil {
		return found, fmt.Errorf("list interfaces: %w", err)
	}
	msgs, err := r.ask(unix.RTM_GETLINK, netlink.Dump, append(make([]byte, linkHeader), attrs...))
	if err != nil {
		return found, fmt.Errorf("list interfaces: %w", err)
	}
	for _, m := range msgs {
		if l, ok := parseLink(m.Data); ok {
			found.links[l.name] = l
		}
	}
	msgs, err = r.ask(unix.RTM_GETADDR, netlink.Dump, make([]byte, addressHeader))
	if err != nil {
		return found, fmt.Errorf("list addresses: %w", err)
	}
	for _, m := range msgs {
		if p, ok := parsePlaced(m.Data); ok {
			found.addrs = append(found.addrs, p)
		}
	}
	return found, nil
}

// add puts an address on an interface. That it stands there already is well.
// It is set without a route to its network when one is there, and for IPv6
// without duplicate address detection, which would take a second and has been
// done (RFC 4862, section 5.4; the lease is what keeps others off), and as
// deprecated, so that no connection of this host's own starts from an address
// that may leave (RFC 6724, section 5, rule 3).
func (r *router) add(p placed, routed bool) error {
	flags := uint32(unix.IFA_F_NOPREFIXROUTE)
	if !routed {
		flags = 0
	}
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.IFA_LOCAL, p.addr.Addr().AsSlice())
	e.Bytes(unix.IFA_ADDRESS, p.addr.Addr().AsSlice())
	if p.addr.Addr().Is6() {
		flags |= unix.IFA_F_NODAD
		e.Bytes(unix.IFA_CACHEINFO, lifetimes(0, forever))
	}
	e.Uint32(unix.IFA_FLAGS, flags)
	err := r.change(unix.RTM_NEWADDR, netlink.Acknowledge|netlink.Create|netlink.Excl, p, e)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return wrap("add address "+p.addr.String(), err)
}

// remove takes an address off an interface. That it, or the interface, is not
// there is well.
func (r *router) remove(p placed) error {
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.IFA_LOCAL, p.addr.Addr().AsSlice())
	e.Bytes(unix.IFA_ADDRESS, p.addr.Addr().AsSlice())
	err := r.change(unix.RTM_DELADDR, netlink.Acknowledge, p, e)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return wrap("remove address "+p.addr.String(), err)
}

// works reports whether the host takes packets to an address for its own. For
// IPv6 the kernel's answer to add comes before that: the route to the address is
// made by one of its workers, 15 ms later when the host is busy.
func (r *router) works(p placed) (bool, error) {
	if p.addr.Addr().Is4() {
		return true, nil
	}
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.RTA_DST, p.addr.Addr().AsSlice())
	if p.addr.Addr().IsLinkLocalUnicast() {
		e.Uint32(unix.RTA_OIF, uint32(p.index))
	}
	attrs, err := e.Encode()
	if err != nil {
		return false, fmt.Errorf("ask for route: %w", err)
	}
	header := make([]byte, routeHeader)
	header[0], header[1] = unix.AF_INET6, 128
	msgs, err := r.ask(unix.RTM_GETROUTE, 0, append(header, attrs...))
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask for route to %s: %w", p.addr.Addr(), err)
	}
	return len(msgs) == 1 && isLocal(msgs[0].Data), nil
}

// isLocal reads whether the message of a route is about an address of this host.
func isLocal(data []byte) bool { return len(data) >= routeHeader && data[7] == unix.RTN_LOCAL }

func (r *router) change(kind uint16, flags netlink.HeaderFlags, p placed, e *netlink.AttributeEncoder) error {
	attrs, err := e.Encode()
	if err != nil {
		return err
	}
	family := byte(unix.AF_INET6)
	if p.addr.Addr().Is4() {
		family = unix.AF_INET
	}
	header := append([]byte{family, byte(p.addr.Bits()), 0, unix.RT_SCOPE_UNIVERSE}, nlenc.Uint32Bytes(uint32(p.index))...)
	_, err = r.ask(kind, flags, append(header, attrs...))
	return err
}

// lifetimes is a struct ifa_cacheinfo, in seconds.
func lifetimes(preferred, valid uint32) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b, preferred)
	binary.NativeEndian.PutUint32(b[4:], valid)
	return b
}

// parseLink reads the message of an interface.
func parseLink(data []byte) (link, bool) {
	if len(data) < linkHeader {
		return link{}, false
	}
	flags := nlenc.Uint32(data[8:12])
	l := link{index: int(int32(nlenc.Uint32(data[4:8]))), up: flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0}
	ether := nlenc.Uint16(data[2:4]) == etherType && flags&unix.IFF_NOARP == 0
	attrs, err := netlink.NewAttributeDecoder(data[linkHeader:])
	if err != nil {
		return link{}, false
	}
	for attrs.Next() {
		switch attrs.Type() {
		case unix.IFLA_IFNAME:
			l.name = attrs.String()
		case unix.IFLA_ADDRESS:
			if b := attrs.Bytes(); ether && len(b) == 6 {
				l.mac = net.HardwareAddr(b)
			}
		}
	}
	return l, attrs.Err() == nil && l.name != "" && l.index > 0
}

// parsePlaced reads the message of an address.
func parsePlaced(data []byte) (placed, bool) {
	if len(data) < addressHeader {
		return placed{}, false
	}
	p := placed{index: int(int32(nlenc.Uint32(data[4:8])))}
	attrs, err := netlink.NewAttributeDecoder(data[addressHeader:])
	if err != nil {
		return placed{}, false
	}
	var addr netip.Addr
	local := false
	for attrs.Next() {
		if kind := attrs.Type(); kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !local {
			// Of a point-to-point link IFA_ADDRESS is the other end's.
			addr, _ = netip.AddrFromSlice(attrs.Bytes())
			local = kind == unix.IFA_LOCAL
		}
	}
	if attrs.Err() != nil || p.index <= 0 {
		return placed{}, false
	}
	p.addr = netip.PrefixFrom(addr, int(data[1]))
	return p, p.addr.IsValid()
}

// watchLinks calls changed whenever an interface or an address may have changed.
// It returns nil when ctx ends, or why it cannot go on.
func watchLinks(ctx context.Context, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	defer conn.Close()
	for _, group := range []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR} {
		if err := conn.JoinGroup(group); err != nil {
			return fmt.Errorf("watch interfaces: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // unblocks Receive
	defer stop()
	for {
		changed() // also for what was changed before the groups were joined
		switch _, err := conn.Receive(); {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS): // more than the buffer holds: look
			return fmt.Errorf("watch interfaces: %w", err)
		}
	}
}
