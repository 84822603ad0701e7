package lan

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
)

// Numbers of the frames: RFC 826 for ARP, RFC 8200 and RFC 4861 for neighbour
// discovery, IEEE 802.3 for the EtherTypes.
const (
	etherLen  = 14
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpLen     = 28
	arpRequest = 1
	arpReply   = 2

	ip6Len        = 40
	ndLen         = 24 // of a solicitation or advertisement without options
	nextICMPv6    = 58
	ndSolicit     = 135
	ndAdvert      = 136
	optSourceLink = 1
	optTargetLink = 2
	flagSolicited = 0x40
	flagOverride  = 0x20
	hopLimit      = 255 // anything else was forwarded and is not neighbour discovery
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = net.HardwareAddr{0, 0, 0, 0, 0, 0}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// announcement is what tells a network that addr is at mac. For IPv4 there are
// two, broadcast: the request that RFC 5227, section 2.3 describes, and the
// reply that some hosts heed instead (section 3 of it; keepalived sends it,
// too). For IPv6 it is the unsolicited advertisement of RFC 4861, section
// 7.2.6, to all nodes, with the override flag.
func announcement(addr netip.Addr, mac net.HardwareAddr) [][]byte {
	if addr.Is4() {
		return [][]byte{
			arpFrame(arpRequest, mac, addr, nobody, addr),
			arpFrame(arpReply, mac, addr, broadcast, addr),
		}
	}
	return [][]byte{ndFrame(ndAdvert, mac, addr, allNodes, addr, optTargetLink)}
}

// probe is what asks whether anybody has addr, without claiming it: an ARP
// request whose sender address is all zero (RFC 5227, section 2.1.1), or a
// solicitation from the unspecified address (RFC 4862, section 5.4.2).
func probe(addr netip.Addr, mac net.HardwareAddr) []byte {
	if addr.Is4() {
		return arpFrame(arpRequest, mac, netip.IPv4Unspecified(), nobody, addr)
	}
	return ndFrame(ndSolicit, mac, netip.IPv6Unspecified(), solicitedNode(addr), addr, 0)
}

func arpFrame(op uint16, mac net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) []byte {
	b := make([]byte, 0, etherLen+arpLen)
	b = append(append(b, broadcast...), mac...)
	b = binary.BigEndian.AppendUint16(b, etherARP)
	b = append(b, 0, 1, 8, 0, 6, 4) // Ethernet, IPv4, and the lengths of their addresses
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, mac...), sender.AsSlice()...)
	return append(append(b, targetMAC...), target.AsSlice()...)
}

func ndFrame(kind byte, mac net.HardwareAddr, source, dest, target netip.Addr, option byte) []byte {
	d := dest.As16()
	b := append([]byte{0x33, 0x33}, d[12:]...) // RFC 2464, section 7
	b = append(b, mac...)
	b = binary.BigEndian.AppendUint16(b, etherIPv6)
	length := uint16(ndLen)
	if option != 0 {
		length += 8
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, length)
	b = append(b, nextICMPv6, hopLimit)
	b = append(append(b, source.AsSlice()...), d[:]...)
	b = append(b, kind, 0, 0, 0, 0, 0, 0, 0)
	if kind == ndAdvert {
		b[etherLen+ip6Len+4] = flagOverride
	}
	b = append(b, target.AsSlice()...)
	if option != 0 {
		b = append(append(b, option, 1), mac...)
	}
	binary.BigEndian.PutUint16(b[etherLen+ip6Len+2:], ^sum(b[etherLen:]))
	return b
}

// sum is the checksum of RFC 4443, section 2.3, not yet complemented, over an
// IPv6 packet of neighbour discovery: 0xffff when the one within is right.
func sum(packet []byte) uint16 {
	var s uint32
	for i := 8; i+1 < len(packet); i += 2 { // both addresses, then the message
		s += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	s += uint32(len(packet)-ip6Len) + nextICMPv6
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// solicitedNode is the group that those who have addr listen to (RFC 4291,
// section 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}

// sight is what a frame says of who has an address.
type sight struct {
	addr netip.Addr
	mac  net.HardwareAddr
	// probing: it asks whether it may have the address, and has it not yet.
	probing bool
}

// parse reads an Ethernet frame. What is not a well-formed message of ARP or
// neighbour discovery, or claims no address, gives no sight. For IPv4 any
// packet with the address as sender claims it, request or reply (RFC 5227,
// section 2.1.1); for IPv6 an advertisement of it, and a solicitation from it
// (RFC 4862, sections 5.4.3 and 5.4.4).
func parse(frame []byte) (sight, bool) {
	if len(frame) < etherLen {
		return sight{}, false
	}
	from, body := net.HardwareAddr(frame[6:12]), frame[etherLen:]
	var s sight
	var ok bool
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		s, ok = parseARP(body)
	case etherIPv6:
		s, ok = parseND(from, body)
	}
	if !ok || bytes.Equal(s.mac, nobody) || s.mac[0]&1 != 0 { // a group has no address
		return sight{}, false
	}
	s.mac = bytes.Clone(s.mac)
	return s, true
}

func parseARP(b []byte) (sight, bool) {
	if len(b) < arpLen || !bytes.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return sight{}, false
	}
	op := binary.BigEndian.Uint16(b[6:])
	mac := net.HardwareAddr(b[8:14])
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	switch {
	case op != arpRequest && op != arpReply:
		return sight{}, false
	case !sender.IsUnspecified():
		return sight{addr: sender, mac: mac}, true
	case op == arpRequest && !target.IsUnspecified():
		return sight{addr: target, mac: mac, probing: true}, true
	}
	return sight{}, false
}

func parseND(from net.HardwareAddr, b []byte) (sight, bool) {
	if len(b) < ip6Len+ndLen || b[0]>>4 != 6 || b[6] != nextICMPv6 || b[7] != hopLimit {
		return sight{}, false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < ndLen || length > len(b)-ip6Len {
		return sight{}, false
	}
	b = b[:ip6Len+length]
	msg := b[ip6Len:]
	if msg[1] != 0 || sum(b) != 0xffff {
		return sight{}, false
	}
	source, target := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(msg[8:24]))
	switch {
	case msg[0] == ndAdvert:
		mac, ok := linkOption(msg[ndLen:], optTargetLink, from)
		return sight{addr: target, mac: mac}, ok && !target.IsMulticast()
	case msg[0] == ndSolicit && source.IsUnspecified():
		return sight{addr: target, mac: from, probing: true}, !target.IsMulticast()
	case msg[0] == ndSolicit:
		mac, ok := linkOption(msg[ndLen:], optSourceLink, from)
		return sight{addr: source, mac: mac}, ok && !source.IsMulticast()
	}
	return sight{}, false
}

// linkOption finds a link-layer address among the options (RFC 4861, section
// 4.6), or else returns the frame's sender. An option of length zero makes the
// whole message void.
func linkOption(b []byte, kind byte, from net.HardwareAddr) (net.HardwareAddr, bool) {
	for len(b) >= 2 {
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			return nil, false
		}
		if b[0] == kind && n == 8 {
			return net.HardwareAddr(b[2:8]), true
		}
		b = b[n:]
	}
	return from, true
}
