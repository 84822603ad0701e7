package fence

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// program is the backstop's program with maps of its own, run on packets that
// the tests make: nothing is attached or pinned.
type program struct {
	testing.TB
	*Backstop
}

func newProgram(t testing.TB) program {
	t.Helper()
	m := &backstopMaps{names: map[slotName]uint32{}}
	for _, one := range m.all() {
		made, err := ebpf.NewMap(&one.spec)
		if err != nil {
			t.Fatalf("the backstop's tests need root (in a container CAP_BPF and CAP_NET_ADMIN): %v", err)
		}
		*one.at = made
	}
	var err error
	if m.memory, err = m.deadlines.Memory(); err != nil {
		t.Fatal(err)
	}
	prog, err := loadBackstopProgram(m)
	if err != nil {
		var verr *ebpf.VerifierError
		if errors.As(err, &verr) {
			t.Fatalf("%+v", verr)
		}
		t.Fatal(err)
	}
	b := NewBackstop("", nil)
	b.maps, b.links = m, backstopLinks{program: prog, links: map[string]attachedLink{}}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return program{t, b}
}

// fence makes a service, closed.
func (p program) fence(id string, proto byte, port uint16, protect ...string) {
	p.Helper()
	var addrs []netip.Addr
	for _, a := range protect {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	s := &backed{keys: ruleKeys([]uint16{port}, []byte{proto}, addrs)}
	var err error
	if s.slot, err = p.maps.slot(serviceSlot(draas.ServiceID(id)), p.used()); err != nil {
		p.Fatal(err)
	}
	p.services[draas.ServiceID(id)] = s
	if err := p.writeRules(s); err != nil {
		p.Fatal(err)
	}
}

func bootNow() time.Duration { return SystemClock{}.Now().Boot }

func (p program) until(id string, d time.Duration) {
	p.Helper()
	s := p.services[draas.ServiceID(id)]
	if err := p.set(draas.ServiceID(id), s.epoch+1, bootNow()+d); err != nil {
		p.Fatal(err)
	}
}

func (p program) verdict(frame []byte) uint32 {
	p.Helper()
	v, _, err := p.links.program.Test(frame)
	if err != nil {
		p.Fatal(err)
	}
	return v
}

const (
	tcp = unix.IPPROTO_TCP
	udp = unix.IPPROTO_UDP
)

// Which packets the program lets in while the service is closed, and that it
// lets all of them in while it is open.
func TestBackstopJudges(t *testing.T) {
	p := newProgram(t)
	p.fence("tcp", tcp, 443)
	p.fence("udp", udp, 53, "203.0.113.5", "2001:db8::5")
	p.fence("two", udp, 54, "203.0.113.6")
	all := []string{"tcp", "udp", "two"}
	const v4, v6 = "203.0.113.5", "2001:db8::5"
	hop, dst, ah := byte(unix.IPPROTO_HOPOPTS), byte(unix.IPPROTO_DSTOPTS), byte(unix.IPPROTO_AH)
	for _, c := range []struct {
		name   string
		packet packet
		closed uint32 // verdict when the services are closed
		open   uint32 // and when they are open; zero: xdpPass
	}{
		{"a SYN", packet{dst: v4, proto: tcp, port: 443, flags: tcpSYN}, xdpTX, 0},
		{"data", packet{dst: v4, proto: tcp, port: 443, flags: tcpACK, data: 100}, xdpTX, 0},
		{"to another address", packet{dst: "192.0.2.1", proto: tcp, port: 443, flags: tcpSYN}, xdpTX, 0},
		{"IPv6", packet{dst: v6, proto: tcp, port: 443, flags: tcpSYN}, xdpTX, 0},
		{"tagged", packet{tags: 1, dst: v4, proto: tcp, port: 443, flags: tcpSYN}, xdpTX, 0},
		{"tagged twice, IPv6", packet{tags: 2, dst: v6, proto: tcp, port: 443, flags: tcpSYN}, xdpTX, 0},
		{"four tags", packet{tags: 4, dst: v4, proto: udp, port: 53}, xdpDrop, 0},
		{"five tags: not looked behind", packet{tags: 5, dst: v4, proto: udp, port: 7}, xdpDrop, xdpDrop},
		{"IPv4 options", packet{dst: v4, proto: tcp, port: 443, flags: tcpSYN, options: 12}, xdpDrop, 0},
		{"a reset", packet{dst: v4, proto: tcp, port: 443, flags: tcpRST}, xdpDrop, 0},
		{"UDP", packet{dst: v4, proto: udp, port: 53, data: 20}, xdpDrop, 0},
		{"UDP over IPv6", packet{dst: v6, proto: udp, port: 53, data: 20}, xdpDrop, 0},

		{"another port", packet{dst: v4, proto: tcp, port: 444, flags: tcpSYN}, xdpPass, 0},
		{"the port by another protocol", packet{dst: v4, proto: udp, port: 443}, xdpPass, 0},
		{"UDP to an address that is not protected", packet{dst: "203.0.113.7", proto: udp, port: 53}, xdpPass, 0},
		{"UDP to another one, IPv6", packet{dst: "2001:db8::6", proto: udp, port: 53}, xdpPass, 0},
		{"UDP to the other's port", packet{dst: v4, proto: udp, port: 54}, xdpPass, 0},
		{"ICMP", packet{dst: v4, proto: unix.IPPROTO_ICMP, port: 443}, xdpPass, 0},
		{"ICMP over IPv6", packet{dst: v6, proto: unix.IPPROTO_ICMPV6, port: 443}, xdpPass, 0},

		{"extension headers", packet{dst: v6, proto: udp, port: 53, headers: []byte{hop, dst, unix.IPPROTO_ROUTING, ah}}, xdpDrop, 0},
		{"extension headers, TCP", packet{dst: v6, proto: tcp, port: 443, flags: tcpSYN, headers: []byte{dst}}, xdpDrop, 0},
		{"extension headers, another port", packet{dst: v6, proto: udp, port: 7, headers: []byte{hop, dst, ah}}, xdpPass, 0},
		{"six headers", packet{dst: v6, proto: udp, port: 53, headers: []byte{dst, dst, dst, dst, dst, dst}}, xdpDrop, 0},
		{"seven headers: not looked behind", packet{dst: v6, proto: udp, port: 7, headers: []byte{dst, dst, dst, dst, dst, dst, dst}}, xdpDrop, xdpDrop},

		{"a first fragment", packet{dst: v4, proto: udp, port: 53, data: 64, more: true}, xdpDrop, 0},
		{"a first fragment, another port", packet{dst: v4, proto: udp, port: 7, data: 64, more: true}, xdpPass, 0},
		{"a fragment behind the first", packet{dst: v4, proto: udp, port: 7, data: 64, offset: 9, more: true}, xdpDrop, 0},
		{"the last fragment", packet{dst: v4, proto: udp, port: 7, data: 64, offset: 9}, xdpDrop, 0},
		{"the last fragment, TCP", packet{dst: v4, proto: tcp, port: 7, data: 64, offset: 9}, xdpDrop, 0},
		{"a fragment to an address that is not protected", packet{dst: "203.0.113.7", proto: udp, port: 53, offset: 9}, xdpPass, 0},
		{"a first fragment, IPv6", packet{dst: v6, proto: udp, port: 53, data: 64, more: true}, xdpDrop, 0},
		{"a first fragment, another port, IPv6", packet{dst: v6, proto: udp, port: 7, data: 64, more: true}, xdpPass, 0},
		{"the last fragment, IPv6", packet{dst: v6, proto: udp, port: 7, data: 64, offset: 9}, xdpDrop, 0},
		{"a header behind a later fragment's", packet{dst: v6, proto: udp, port: 7, offset: 9, headers: []byte{dst}}, xdpDrop, xdpDrop},

		{"cut in the ports", packet{dst: v4, proto: udp, port: 7, short: 5}, xdpDrop, xdpDrop},
		{"cut in the ports, IPv6", packet{dst: v6, proto: udp, port: 7, short: 5}, xdpDrop, xdpDrop},
		{"cut in the IP header", packet{dst: v4, proto: udp, port: 7, short: 8 + 4}, xdpDrop, xdpDrop},
		{"cut in an extension header", packet{dst: v6, proto: udp, port: 7, headers: []byte{dst}, short: 8 + 9}, xdpDrop, xdpDrop},
		{"cut in the TCP header", packet{dst: v4, proto: tcp, port: 443, flags: tcpSYN, short: 10}, xdpDrop, 0},
	} {
		frame := c.packet.bytes()
		if c.open == 0 {
			c.open = xdpPass
		}
		check := func(state string, want uint32) {
			if got := p.verdict(frame); got != want {
				t.Errorf("%s, %s: verdict %d, want %d", c.name, state, got, want)
			}
		}
		check("never opened", c.closed)
		for _, id := range all {
			p.until(id, time.Minute)
		}
		check("open", c.open)
		for _, id := range all {
			p.until(id, 0)
		}
		check("its deadline has passed", c.closed)
		for _, id := range all {
			if err := p.set(draas.ServiceID(id), 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		check("closed", c.closed)
	}
	lost := ruleKey{Port: [2]byte{0, 99}, Proto: tcp}
	if err := p.maps.rules.Put(lost, uint32(maxSlots)); err != nil { // a slot that is not there
		t.Fatal(err)
	}
	if v := p.verdict(packet{dst: v4, proto: tcp, port: 99, flags: tcpSYN}.bytes()); v != xdpTX {
		t.Errorf("a rule without a deadline: verdict %d", v)
	}
	for _, frame := range [][]byte{
		append(make([]byte, 12), 8, 6),           // ARP
		append(make([]byte, 12), 8, 0),           // IPv4 without a header
		append(make([]byte, 12), 0x86, 0xdd),     // IPv6 likewise
		append(make([]byte, 12), 0x81, 0),        // a tag cut off
		append(make([]byte, 12), 8, 0, 0x44, 15), // a header too short
	} {
		want := uint32(xdpDrop)
		if frame[13] == 6 {
			want = xdpPass
		}
		if got := p.verdict(append(frame, make([]byte, 0)...)); got != want {
			t.Errorf("%x: verdict %d, want %d", frame, got, want)
		}
	}
}

// Packets without a port pass only when all the services that they may belong to
// are open.
func TestBackstopBlind(t *testing.T) {
	p := newProgram(t)
	p.fence("one", udp, 53)
	p.fence("two", udp, 54)
	p.fence("else", udp, 55, "203.0.113.9")
	fragment := packet{dst: "203.0.113.5", proto: udp, port: 7, data: 64, offset: 9}.bytes()
	elsewhere := packet{dst: "203.0.113.9", proto: udp, port: 7, data: 64, offset: 9}.bytes()
	for _, c := range []struct {
		open, closed    string
		want, elsewhere uint32
	}{
		{"one", "", xdpDrop, xdpDrop}, {"two", "", xdpPass, xdpDrop}, {"else", "", xdpPass, xdpPass},
		{"", "one", xdpDrop, xdpDrop}, {"one", "two", xdpDrop, xdpDrop}, {"two", "else", xdpPass, xdpDrop},
	} {
		if c.open != "" {
			p.until(c.open, time.Minute)
		}
		if c.closed != "" {
			if err := p.set(draas.ServiceID(c.closed), 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		if got := p.verdict(fragment); got != c.want {
			t.Errorf("opened %q, closed %q: verdict %d, want %d", c.open, c.closed, got, c.want)
		}
		if got := p.verdict(elsewhere); got != c.elsewhere {
			t.Errorf("opened %q, closed %q, to the protected address: verdict %d, want %d", c.open, c.closed, got, c.elsewhere)
		}
	}
}

// Slots are given again only when none is free, and never one that is in use.
func TestBackstopSlots(t *testing.T) {
	p := newProgram(t)
	p.fence("kept", tcp, 443)
	kept := p.services["kept"].slot
	seen := map[uint32]bool{kept: true}
	for i := range maxSlots - 2 { // one is the fragments'
		slot, err := p.maps.slot(serviceSlot(draas.ServiceID(fmt.Sprint("gone", i))), p.used())
		if err != nil || seen[slot] {
			t.Fatalf("slot %d of %d: %v", slot, i, err)
		}
		seen[slot] = true
	}
	p.maps.write(1, bootNow()+time.Hour) // of one that is gone, or the fragments'
	for i := range 5 {
		p.fence(fmt.Sprint("new", i), udp, uint16(i+1))
		slot := p.services[draas.ServiceID(fmt.Sprint("new", i))].slot
		if slot == kept || p.maps.read(slot) != 0 {
			t.Errorf("slot %d, which was %d, until %v", slot, kept, p.maps.read(slot))
		}
	}
	p.until("kept", time.Hour)
	if v := p.verdict(packet{dst: "203.0.113.5", proto: tcp, port: 443, flags: tcpSYN}.bytes()); v != xdpPass {
		t.Errorf("verdict %d", v)
	}
}

// The answer to a segment that is not let in is the reset of RFC 9293, section
// 3.10.7.1, whole: addresses turned around, lengths and checksums right.
func TestBackstopAnswers(t *testing.T) {
	p := newProgram(t)
	p.fence("tcp", tcp, 443)
	for _, k := range []packet{
		{dst: "203.0.113.5", flags: tcpSYN, seq: 0xfffffffe},
		{dst: "203.0.113.5", flags: tcpSYN | tcpACK, seq: 7, ack: 0x01020304},
		{dst: "203.0.113.5", flags: tcpACK, seq: 1 << 31, ack: 99, data: 1400},
		{dst: "203.0.113.5", flags: tcpFIN, seq: 1000, data: 3, tags: 1},
		{dst: "2001:db8::5", flags: tcpSYN, seq: 0x12345678, tags: 2},
		{dst: "2001:db8::5", flags: tcpACK, seq: 5, ack: 6, data: 1},
		{dst: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", flags: tcpSYN | tcpFIN, seq: 8, data: 9},
	} {
		k.proto, k.port = tcp, 443
		in := k.bytes()
		verdict, out, err := p.links.program.Test(in)
		if err != nil || verdict != xdpTX {
			t.Fatalf("%+v: verdict %d, %v", k, verdict, err)
		}
		want := packet{tags: k.tags, dst: k.dst, proto: tcp, port: 443, flags: tcpRST | tcpACK, ack: k.seq + uint32(k.data)}
		if k.flags&tcpSYN != 0 {
			want.ack++
		}
		if k.flags&tcpFIN != 0 {
			want.ack++
		}
		if k.flags&tcpACK != 0 {
			want.flags, want.seq, want.ack = tcpRST, k.ack, 0
		}
		if err := sameReset(in, out, want); err != nil {
			t.Errorf("%+v: %v\n in %x\nout %x", k, err, in, out)
		}
	}
	group := packet{dst: "203.0.113.5", proto: tcp, port: 443, flags: tcpSYN}.bytes()
	group[0] |= 1
	if v := p.verdict(group); v != xdpDrop {
		t.Errorf("a segment to a group of stations: verdict %d", v)
	}
	short := packet{dst: "203.0.113.5", proto: tcp, port: 443, flags: tcpACK}.bytes()
	short[14+3] = 30 // shorter than its headers
	if v := p.verdict(short); v != xdpDrop {
		t.Errorf("a segment shorter than its headers: verdict %d", v)
	}
}

// sameReset compares a frame with what k says of it; k's dst and port are the
// sender's.
func sameReset(in, out []byte, k packet) error {
	l3 := 14 + 4*k.tags
	src := netip.MustParseAddr(k.dst)
	n := l3 + 40
	if src.Is6() {
		n += 20
	}
	if want := max(n, min(len(in), minFrame)); len(out) != want {
		return fmt.Errorf("%d bytes, want %d", len(out), want)
	}
	if !bytes.Equal(out[:12], []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}) {
		return fmt.Errorf("stations %x", out[:12])
	}
	ip, l4 := out[l3:n-20], out[n-20:n]
	var pseudo []byte
	if src.Is4() {
		if ip[0] != 0x45 || be(ip[2:4]) != 40 || ip[8] != 64 || ip[9] != tcp || sum16(ip) != 0xffff {
			return fmt.Errorf("IP header %x, sum %x", ip, sum16(ip))
		}
		pseudo = ip[12:20]
	} else {
		if be(ip[:4]) != 0x60000000 || be(ip[4:6]) != 20 || ip[6] != tcp || ip[7] != 64 {
			return fmt.Errorf("IPv6 header %x", ip)
		}
		pseudo = ip[8:40]
	}
	half := len(pseudo) / 2
	if from, _ := netip.AddrFromSlice(pseudo[:half]); from != src {
		return fmt.Errorf("from %s", from)
	}
	if to, _ := netip.AddrFromSlice(pseudo[half:]); to != map[bool]netip.Addr{true: netip.MustParseAddr("198.51.100.7"), false: netip.MustParseAddr("2001:db8::7")}[src.Is4()] {
		return fmt.Errorf("to %s", to)
	}
	if s := sum16(append(append([]byte{0, tcp, 0, 20}, pseudo...), l4...)); s != 0xffff {
		return fmt.Errorf("TCP checksum: sum %x", s)
	}
	if be(l4[:2]) != 443 || be(l4[2:4]) != clientPort || be(l4[4:8]) != uint64(k.seq) || be(l4[8:12]) != uint64(k.ack) || l4[12] != 5<<4 || l4[13] != k.flags {
		return fmt.Errorf("TCP header %x, want sequence %x, acknowledgement %x, flags %x", l4, k.seq, k.ack, k.flags)
	}
	return nil
}

// BenchmarkBackstop is what the program costs a packet (BPF_PROG_TEST_RUN). The
// first, a program that only lets pass, is the price of the measurement.
func BenchmarkBackstop(b *testing.B) {
	p := newProgram(b)
	p.fence("every address", tcp, 443)
	p.fence("protected", tcp, 8443, "203.0.113.5", "2001:db8::5")
	for i := range 100 {
		p.fence(fmt.Sprint("other", i), tcp, uint16(10000+i))
	}
	p.until("every address", time.Hour)
	p.until("protected", time.Hour)
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	defer empty.Close()
	const v4, v6 = "203.0.113.5", "2001:db8::5"
	for _, c := range []struct {
		name    string
		program *ebpf.Program
		packet  packet
	}{
		{"nothing", empty, packet{dst: v4, proto: tcp, port: 443, flags: tcpACK}},
		{"not fenced", p.links.program, packet{dst: v4, proto: tcp, port: 22, flags: tcpACK}},
		{"open", p.links.program, packet{dst: v4, proto: tcp, port: 443, flags: tcpACK}},
		{"open, protected address", p.links.program, packet{dst: v4, proto: tcp, port: 8443, flags: tcpACK}},
		{"open, IPv6, tagged", p.links.program, packet{tags: 1, dst: v6, proto: tcp, port: 443, flags: tcpACK}},
		{"open, IPv6, protected, two headers", p.links.program, packet{dst: v6, proto: tcp, port: 8443, headers: []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS}}},
		{"closed", p.links.program, packet{dst: v4, proto: udp, port: 10000}},
	} {
		b.Run(c.name, func(b *testing.B) {
			const runs = 1_000_000
			frame := c.packet.bytes()
			var total time.Duration
			for b.Loop() {
				_, each, err := c.program.Benchmark(frame, runs, nil)
				if err != nil {
					b.Fatal(err)
				}
				total += each
			}
			b.ReportMetric(float64(total)/float64(b.N), "ns/packet")
		})
	}
}
