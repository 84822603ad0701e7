package frontend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strconv"
)

// The PROXY protocol, versions 1 and 2, after HAProxy's proxy-protocol.txt
// (2020/03/05). The codec is our own: it works on bytes that were read by
// whatever means, says when there are too few of them, and is stricter than
// pires/go-proxyproto, which takes "+80" for a port and words behind the last
// one, and gives up on a header that comes in two parts. The tests hold it to
// that library.

var (
	// ErrProxyShort is returned for the beginning of a header: more is needed.
	ErrProxyShort = errors.New("the PROXY header is not complete")
	// ErrProxyHeader is returned for what is not a PROXY header.
	ErrProxyHeader = errors.New("not a PROXY header")
)

// MaxProxyHeader is the longest header that is read, in bytes. Version 2 could
// have 64 KiB, but nothing that we look at is behind the addresses.
const MaxProxyHeader = 4096

const maxProxyV1 = 107 // "worst case" of section 2.1, the CR LF included

// ProxyHeader is what a proxy says of the connection that it leads on.
type ProxyHeader struct {
	// Source and Destination are zero when nothing is said of them: the
	// proxy's own connection, or one that is not TCP over IP.
	Source, Destination netip.AddrPort
}

const (
	proxyV1 = "PROXY "
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// ParseProxy reads the header that b begins with, and says how long it is.
func ParseProxy(b []byte) (h ProxyHeader, n int, err error) {
	switch {
	case begins(b, proxyV1):
		if len(b) < len(proxyV1) {
			return h, 0, ErrProxyShort
		}
		return parseProxyV1(b)
	case begins(b, proxyV2):
		return parseProxyV2(b)
	}
	return h, 0, ErrProxyHeader
}

// begins reports whether b begins with prefix, or is the beginning of it.
func begins(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

func parseProxyV1(b []byte) (h ProxyHeader, n int, err error) {
	line := b[:min(len(b), maxProxyV1)]
	end := bytes.IndexByte(line, '\n')
	if end < 0 {
		if len(line) == maxProxyV1 {
			return h, 0, ErrProxyHeader
		}
		return h, 0, ErrProxyShort
	}
	line, n = line[len(proxyV1):end], end+1
	line, ok := bytes.CutSuffix(line, []byte("\r"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return h, 0, ErrProxyHeader
	}
	words := bytes.Split(line, []byte(" "))
	switch string(words[0]) {
	case "UNKNOWN":
		return h, n, nil // "the receiver must ignore anything presented before the CRLF"
	case "TCP4", "TCP6":
	default:
		return h, 0, ErrProxyHeader
	}
	if len(words) != 5 {
		return h, 0, ErrProxyHeader
	}
	source, ok1 := parseEnd(words[1], words[3], string(words[0]) == "TCP4")
	dest, ok2 := parseEnd(words[2], words[4], string(words[0]) == "TCP4")
	if !ok1 || !ok2 {
		return h, 0, ErrProxyHeader
	}
	return ProxyHeader{source, dest}, n, nil
}

func parseEnd(address, port []byte, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(address))
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	p, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(p)), true
}

// Of version 2.
const (
	v2Head  = 16
	v2Local = 0x20
	v2Proxy = 0x21

	v2TCP4       = 0x11
	v2TCP6       = 0x21
	v2UnixStream = 0x31

	tlvCRC32C = 0x03
)

func parseProxyV2(b []byte) (h ProxyHeader, n int, err error) {
	if len(b) > 12 && b[12] != v2Local && b[12] != v2Proxy {
		return h, 0, ErrProxyHeader
	}
	if len(b) < v2Head {
		return h, 0, ErrProxyShort
	}
	n = v2Head + int(binary.BigEndian.Uint16(b[14:]))
	if n > MaxProxyHeader {
		return h, 0, ErrProxyHeader
	}
	if len(b) < n {
		return h, 0, ErrProxyShort
	}
	rest := b[v2Head:n]
	if b[12] == v2Local {
		// "The receiver must ... use the real connection endpoints and must
		// discard the protocol block including the family which is ignored."
		return h, n, nil
	}
	var size int // of one address
	switch b[13] {
	case 0: // unspecified
	case v2TCP4:
		size = 4
	case v2TCP6:
		size = 16
	case v2UnixStream:
		size = 106 // with two bytes of port less, as the sum is 216
	default:
		return h, 0, ErrProxyHeader // datagrams do not come by a stream
	}
	if len(rest) < 2*size+4 && size > 0 {
		return h, 0, ErrProxyHeader
	}
	if size == 4 || size == 16 {
		source, _ := netip.AddrFromSlice(rest[:size])
		dest, _ := netip.AddrFromSlice(rest[size : 2*size])
		h.Source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(rest[2*size:]))
		h.Destination = netip.AddrPortFrom(dest, binary.BigEndian.Uint16(rest[2*size+2:]))
	}
	if size > 0 {
		rest = rest[2*size+4:]
	}
	if !tlvsGood(b[:n], rest) {
		return ProxyHeader{}, 0, ErrProxyHeader
	}
	return h, n, nil
}

// tlvsGood goes over the extensions at a header's end: they must fill it, and
// a checksum among them must be right (section 2.2.3).
func tlvsGood(header, rest []byte) bool {
	for len(rest) > 0 {
		if len(rest) < 3 {
			return false
		}
		size := int(binary.BigEndian.Uint16(rest[1:]))
		if len(rest) < 3+size {
			return false
		}
		value := rest[3 : 3+size]
		if rest[0] == tlvCRC32C {
			if size != 4 {
				return false
			}
			at := len(header) - len(rest) + 3
			sum := crc32.Update(0, castagnoli, header[:at])
			sum = crc32.Update(sum, castagnoli, make([]byte, 4))
			sum = crc32.Update(sum, castagnoli, header[at+4:])
			if sum != binary.BigEndian.Uint32(value) {
				return false
			}
		}
		rest = rest[3+size:]
	}
	return true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendProxy appends a header of version 1 or 2; any other version appends
// nothing. Addresses of two families are written as IPv6.
func AppendProxy(b []byte, version int, h ProxyHeader) []byte {
	source, dest := h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	known := source.IsValid() && dest.IsValid()
	if known && source.Is4() != dest.Is4() {
		source, dest = netip.AddrFrom16(source.As16()), netip.AddrFrom16(dest.As16())
	}
	source, dest = source.WithZone(""), dest.WithZone("")
	switch version {
	case 1:
		if !known {
			return append(b, "PROXY UNKNOWN\r\n"...)
		}
		family := "TCP6 "
		if source.Is4() {
			family = "TCP4 "
		}
		b = append(append(b, proxyV1...), family...)
		b = append(source.AppendTo(b), ' ')
		b = append(dest.AppendTo(b), ' ')
		b = strconv.AppendUint(b, uint64(h.Source.Port()), 10)
		b = strconv.AppendUint(append(b, ' '), uint64(h.Destination.Port()), 10)
		b = append(b, "\r\n"...)
	case 2:
		b = append(b, proxyV2...)
		if !known {
			return append(b, v2Local, 0, 0, 0)
		}
		family, size := byte(v2TCP6), 36
		if source.Is4() {
			family, size = v2TCP4, 12
		}
		b = append(b, v2Proxy, family, 0, byte(size))
		b = append(append(b, source.AsSlice()...), dest.AsSlice()...)
		b = binary.BigEndian.AppendUint16(b, h.Source.Port())
		b = binary.BigEndian.AppendUint16(b, h.Destination.Port())
	}
	return b
}
