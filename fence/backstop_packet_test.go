package fence

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet describes a frame.
type packet struct {
	tags    int
	src     string
	dst     string
	proto   byte
	port    uint16
	flags   byte
	seq     uint32
	ack     uint32
	data    int    // bytes of payload
	options int    // bytes of IPv4 options
	headers []byte // IPv6 extension headers
	offset  uint16 // of a fragment, in 8 bytes; its header is written if this or more is set
	more    bool
	short   int // bytes cut off at the end
}

const clientPort = 40000

func (k packet) bytes() []byte {
	if k.src == "" {
		k.src = "198.51.100.7"
		if netip.MustParseAddr(k.dst).Is6() {
			k.src = "2001:db8::7"
		}
	}
	be := binary.BigEndian
	var l4 []byte
	l4 = be.AppendUint16(l4, clientPort)
	l4 = be.AppendUint16(l4, k.port)
	if k.proto == unix.IPPROTO_TCP {
		l4 = be.AppendUint32(l4, k.seq)
		l4 = be.AppendUint32(l4, k.ack)
		l4 = append(l4, 5<<4, k.flags, 0x10, 0, 0, 0, 0, 0)
	} else {
		l4 = be.AppendUint16(l4, uint16(8+k.data))
		l4 = append(l4, 0, 0)
	}
	l4 = append(l4, bytes.Repeat([]byte{0xdd}, k.data)...)
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for range k.tags {
		frame = append(frame, 0x81, 0, 0, 7)
	}
	dst, src := netip.MustParseAddr(k.dst), netip.MustParseAddr(k.src)
	fragment := k.offset<<3 | map[bool]uint16{true: 1}[k.more]
	if dst.Is4() {
		frame = append(frame, 8, 0, byte(0x45+k.options/4), 0)
		frame = be.AppendUint16(frame, uint16(20+k.options+len(l4)))
		frame = append(frame, 0, 1)
		frame = be.AppendUint16(frame, k.offset|map[bool]uint16{true: 0x2000}[k.more])
		frame = append(frame, 64, k.proto, 0, 0)
		frame = append(append(frame, src.AsSlice()...), dst.AsSlice()...)
		frame = append(frame, bytes.Repeat([]byte{1}, k.options)...) // no operation
	} else {
		headers, last := k.chain(fragment)
		frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0)
		frame = be.AppendUint16(frame, uint16(len(headers)+len(l4)))
		frame = append(frame, last, 64)
		frame = append(append(frame, src.AsSlice()...), dst.AsSlice()...)
		frame = append(frame, headers...)
	}
	frame = append(frame, l4...)
	return frame[:len(frame)-k.short]
}

// chain is the extension headers, and the number of the first.
func (k packet) chain(fragment uint16) (all []byte, first byte) {
	first = k.proto
	kinds := k.headers
	if fragment != 0 {
		kinds = append([]byte{unix.IPPROTO_FRAGMENT}, kinds...)
	}
	for i := len(kinds) - 1; i >= 0; i-- {
		h := make([]byte, 16)
		h[0], h[1] = first, 1 // 16 bytes
		switch kinds[i] {
		case unix.IPPROTO_AH:
			h[1] = 2
		case unix.IPPROTO_FRAGMENT:
			h = h[:8]
			h[1] = 0
			binary.BigEndian.PutUint16(h[2:], fragment)
		}
		all, first = append(h, all...), kinds[i]
	}
	return all, first
}

func be(b []byte) (n uint64) {
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

// sum16 is the ones' complement sum of RFC 1071.
func sum16(b []byte) uint16 {
	var n uint64
	for i := 0; i < len(b); i += 2 {
		n += be(b[i : i+2])
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}
