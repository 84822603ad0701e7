package fence

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aim is where a frame goes, as far as it concerns the backstop.
type aim struct {
	addr  netip.Addr
	proto byte
	port  uint16 // 0: a fragment that has none
}

// aimed reads a frame plainly: where it goes, or that nobody who is fenced gets
// it (other), or that it cannot be read (broken).
func aimed(frame []byte) (a aim, other, broken bool) {
	kind, at := binary.BigEndian.Uint16(frame[12:]), 14
	tagged := func() bool { return kind == unix.ETH_P_8021Q || kind == unix.ETH_P_8021AD }
	for n := 0; tagged(); n++ {
		if n == maxTags || len(frame) < at+4 {
			return a, false, true
		}
		kind, at = binary.BigEndian.Uint16(frame[at+2:]), at+4
	}
	ip := frame[at:]
	switch {
	case kind == unix.ETH_P_IP && len(ip) >= 20:
		return aimed4(ip)
	case kind == unix.ETH_P_IPV6 && len(ip) >= 40:
		return aimed6(ip)
	}
	return a, kind != unix.ETH_P_IP && kind != unix.ETH_P_IPV6, true
}

func aimed4(ip []byte) (a aim, other, broken bool) {
	a.addr, a.proto = netip.AddrFrom4([4]byte(ip[16:20])), ip[9]
	if a.proto != tcp && a.proto != udp {
		return a, true, false
	}
	if binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
		return a, false, false
	}
	size := int(ip[0]&15) * 4
	if size < 20 || len(ip) < size+4 {
		return a, false, true
	}
	a.port = binary.BigEndian.Uint16(ip[size+2:])
	return a, false, false
}

func aimed6(ip []byte) (a aim, other, broken bool) {
	headers := []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_MH, unix.IPPROTO_AH, unix.IPPROTO_FRAGMENT}
	a.addr, a.proto = netip.AddrFrom16([16]byte(ip[24:40])), ip[6]
	rest := ip[40:]
	for n := 0; slices.Contains(headers, a.proto); n++ {
		if n == maxHeaders || len(rest) < 8 {
			return a, false, true
		}
		size := 8 + 8*int(rest[1])
		switch a.proto {
		case unix.IPPROTO_AH:
			size = 8 + 4*int(rest[1])
		case unix.IPPROTO_FRAGMENT:
			size = 8
			if binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
				a.proto = rest[0]
				more := slices.Contains(headers, a.proto) // whose fragment it is stands behind
				return a, a.proto != tcp && a.proto != udp && !more, more
			}
		}
		a.proto, rest = rest[0], rest[min(size, len(rest)):]
	}
	if a.proto != tcp && a.proto != udp {
		return a, true, false
	}
	if len(rest) < 4 {
		return a, false, true
	}
	a.port = binary.BigEndian.Uint16(rest[2:])
	return a, false, false
}

// FuzzBackstop: of any frame the program in the kernel thinks what a plain
// reading of the standards does. No frame to what is closed passes, none that is
// not for it is kept, and what is sent back is a reset to where it came from, no
// longer than what came.
func FuzzBackstop(f *testing.F) {
	closed, open := newProgram(f), newProgram(f)
	for _, p := range []program{closed, open} {
		p.fence("tcp", tcp, 443)
		p.fence("udp", udp, 53, "203.0.113.5", "2001:db8::5")
	}
	open.until("tcp", 1000*time.Hour)
	open.until("udp", 1000*time.Hour)
	const v4, v6 = "203.0.113.5", "2001:db8::5"
	for _, k := range []packet{
		{dst: v4, proto: tcp, port: 443, flags: tcpSYN, seq: 7},
		{dst: v4, proto: tcp, port: 443, flags: tcpACK, data: 30, tags: 1},
		{dst: v6, proto: tcp, port: 443, flags: tcpFIN | tcpACK, tags: 4},
		{dst: v4, proto: udp, port: 53, options: 8, more: true},
		{dst: v4, proto: udp, port: 7, offset: 9},
		{dst: v6, proto: udp, port: 53, headers: []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_AH}},
		{dst: v6, proto: udp, port: 7, headers: []byte{unix.IPPROTO_MH, unix.IPPROTO_AH, unix.IPPROTO_DSTOPTS}},
		{dst: v6, proto: udp, port: 7, offset: 9, headers: []byte{unix.IPPROTO_DSTOPTS}},
		{dst: v6, proto: tcp, port: 22, flags: tcpSYN, headers: []byte{unix.IPPROTO_ROUTING}, short: 3},
		{dst: "192.0.2.1", proto: unix.IPPROTO_ICMP},
	} {
		f.Add(k.bytes())
	}
	short := packet{dst: v4, proto: udp, port: 53}.bytes()
	short[14] = 0x44 // shorter than a header can be
	f.Add(short)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 14 || len(frame) > 2000 {
			return // no frame for the kernel's test run
		}
		a, other, broken := aimed(frame)
		a.addr = a.addr.Unmap() // by IPv6, nobody gets it; it counts all the same
		fenced := a.proto == tcp && (a.port == 443 || a.port == 0) ||
			a.proto == udp && (a.port == 53 || a.port == 0) && (a.addr == netip.MustParseAddr(v4) || a.addr == netip.MustParseAddr(v6))
		keeps, _, err := open.links.program.Test(frame)
		if err != nil {
			t.Fatal(err)
		}
		drops, out, err := closed.links.program.Test(frame)
		if err != nil {
			t.Fatal(err)
		}
		want := uint32(xdpPass)
		if broken && !other {
			want = xdpDrop
		}
		if keeps != want {
			t.Fatalf("%x\nto %+v, other %v, broken %v: verdict %d while open", frame, a, other, broken, keeps)
		}
		if fenced && !other && !broken {
			want = xdpDrop
		}
		if drops == xdpTX {
			if want != xdpDrop || a.proto != tcp || len(out) > max(len(frame), minFrame) || !answers(frame, out) {
				t.Fatalf("%x\nto %+v: answered with %x", frame, a, out)
			}
			return
		}
		if drops != want {
			t.Fatalf("%x\nto %+v, other %v, broken %v: verdict %d while closed", frame, a, other, broken, drops)
		}
	})
}

// answers reports whether a frame is a reset back to the sender of another.
func answers(in, out []byte) bool {
	at := 12
	for out[at] == 0x81 || out[at] == 0x88 {
		at += 4
	}
	if string(out[:6]) != string(in[6:12]) || string(out[6:12]) != string(in[:6]) || in[0]&1 != 0 || string(in[12:at+2]) != string(out[12:at+2]) {
		return false
	}
	was, is := in[at+2:], out[at+2:]
	addrs, size, l4 := 12, 4, 20
	if out[at] == 0x86 {
		addrs, size, l4 = 8, 16, 40
	} else if sum16(is[:20]) != 0xffff {
		return false
	}
	pseudo := append([]byte{0, tcp, 0, 20}, is[addrs:addrs+2*size]...)
	src, dst := addrs, addrs+size
	return string(is[src:src+size]) == string(was[dst:dst+size]) && string(is[dst:dst+size]) == string(was[src:src+size]) &&
		string(is[l4:l4+2]) == string(was[l4+2:l4+4]) && string(is[l4+2:l4+4]) == string(was[l4:l4+2]) &&
		was[l4+13]&tcpRST == 0 && is[l4+13]&^tcpACK == tcpRST && sum16(append(pseudo, is[l4:l4+20]...)) == 0xffff
}
