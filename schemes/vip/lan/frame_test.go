package lan

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The frames, written out by hand from the RFCs.
func TestFrames(t *testing.T) {
	mac := mustMAC(firstMAC)
	four, six := addr("10.7.0.100/32"), addr("fd07::12:3456/128")
	for what, c := range map[string]struct {
		got  []byte
		want string
	}{
		"announcement, request": {announcement(four, mac)[0], `ffffffffffff 020000000001 0806
			0001 0800 06 04 0001 020000000001 0a070064 000000000000 0a070064`},
		"announcement, reply": {announcement(four, mac)[1], `ffffffffffff 020000000001 0806
			0001 0800 06 04 0002 020000000001 0a070064 ffffffffffff 0a070064`},
		"probe, IPv4": {probe(four, mac), `ffffffffffff 020000000001 0806
			0001 0800 06 04 0001 020000000001 00000000 000000000000 0a070064`},
		"announcement, IPv6": {announcement(six, mac)[0], `333300000001 020000000001 86dd
			60000000 0020 3a ff fd070000000000000000000000123456 ff020000000000000000000000000001
			88 00 f1be 20000000 fd070000000000000000000000123456 02 01 020000000001`},
		"probe, IPv6": {probe(six, mac), `3333ff123456 020000000001 86dd
			60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff123456
			87 00 14d0 00000000 fd070000000000000000000000123456`},
	} {
		if want := unhex(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n%x\n%x", what, c.got, want)
		}
	}
}

func TestParse(t *testing.T) {
	mac, other := mustMAC(firstMAC), mustMAC(secondMAC)
	four, six, host6 := addr(vip4), addr(vip6), addr("fd07::2/128")
	spoil := func(b []byte, at int, with byte) []byte {
		b = bytes.Clone(b)
		b[at] = with
		return b
	}
	// fix makes the checksum of a message of neighbour discovery right again.
	fix := func(b []byte) []byte {
		copy(b[etherLen+ip6Len+2:], []byte{0, 0})
		s := ^sum(b[etherLen:])
		copy(b[etherLen+ip6Len+2:], []byte{byte(s >> 8), byte(s)})
		return b
	}
	const icmp = etherLen + ip6Len
	na := announcement(six, mac)[0]
	for what, c := range map[string]struct {
		frame []byte
		want  string
	}{
		"announcement, request":       {announcement(four, mac)[0], "10.7.0.100 02:00:00:00:00:01"},
		"announcement, reply":         {announcement(four, mac)[1], "10.7.0.100 02:00:00:00:00:01"},
		"question":                    {arpFrame(arpRequest, other, four, nobody, addr("10.7.0.9/32")), "10.7.0.100 02:00:00:00:00:02"},
		"probe":                       {probe(four, other), "10.7.0.100 02:00:00:00:00:02 probing"},
		"probe, IPv6":                 {probe(six, other), "fd07::100 02:00:00:00:00:02 probing"},
		"advertisement":               {na, "fd07::100 02:00:00:00:00:01"},
		"advertisement, no option":    {ndFrame(ndAdvert, mac, host6, allNodes, six, 0), "fd07::100 02:00:00:00:00:01"},
		"advertisement for another":   {fix(spoil(na, icmp+ndLen+7, 7)), "fd07::100 02:00:00:00:00:07"},
		"question, IPv6":              {ndFrame(ndSolicit, mac, six, solicitedNode(host6), host6, optSourceLink), "fd07::100 02:00:00:00:00:01"},
		"padded":                      {append(bytes.Clone(na), 1, 2, 3), "fd07::100 02:00:00:00:00:01"},
		"short":                       {na[:13], ""},
		"short ARP":                   {probe(four, mac)[:etherLen+arpLen-1], ""},
		"short IPv6":                  {na[:icmp+ndLen-1], ""},
		"other protocol":              {spoil(na, 12, 8), ""},
		"ARP of other hardware":       {spoil(probe(four, mac), etherLen+1, 6), ""},
		"inverse ARP":                 {spoil(announcement(four, mac)[0], etherLen+7, 8), ""},
		"ARP from nobody to nobody":   {probe(netip.IPv4Unspecified(), mac), ""},
		"reply from nobody":           {arpFrame(arpReply, mac, netip.IPv4Unspecified(), nobody, four), ""},
		"no MAC address":              {announcement(four, nobody)[0], ""},
		"group's MAC address":         {announcement(four, broadcast)[0], ""},
		"forwarded":                   {fix(spoil(na, etherLen+7, 254)), ""},
		"not version 6":               {spoil(na, etherLen, 0x40), ""},
		"not ICMPv6":                  {spoil(na, etherLen+6, 17), ""},
		"wrong checksum":              {spoil(na, icmp+2, 0), ""},
		"code":                        {fix(spoil(na, icmp+1, 1)), ""},
		"longer than it is":           {spoil(na, etherLen+5, 0x21), ""},
		"shorter than a message":      {spoil(na, etherLen+5, ndLen-1), ""},
		"option of no length":         {fix(spoil(na, icmp+ndLen+1, 0)), ""},
		"option longer than it is":    {fix(spoil(na, icmp+ndLen+1, 2)), ""},
		"router's message":            {fix(spoil(na, icmp, 134)), ""},
		"advertisement of a group":    {fix(spoil(na, icmp+8, 0xff)), ""},
		"other option, not the first": {fix(append(spoil(na, etherLen+5, 0x28)[:icmp+ndLen], 14, 1, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 5)), "fd07::100 02:00:00:00:00:05"},
	} {
		s, ok := parse(c.frame)
		got := ""
		if ok {
			got = strings.TrimSpace(fmt.Sprint(s.addr, " ", s.mac, " ", map[bool]string{true: "probing"}[s.probing]))
		}
		if got != c.want {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// Whatever is heard, a sight is of an address that one host can have.
func FuzzFrame(f *testing.F) {
	mac := mustMAC(firstMAC)
	for _, a := range []string{vip4, vip6} {
		f.Add(announcement(addr(a), mac)[0])
		f.Add(probe(addr(a), mac))
	}
	f.Add(ndFrame(ndSolicit, mac, addr(vip6), solicitedNode(addr(vip6)), addr("fd07::2/128"), optSourceLink))
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		s, ok := parse(frame)
		if !bytes.Equal(frame, before) {
			t.Fatal("the frame was written to")
		}
		if !ok {
			return
		}
		if len(s.mac) != 6 || s.mac[0]&1 != 0 || !s.addr.IsValid() || s.addr.Is6() && s.addr.IsMulticast() {
			t.Fatalf("%+v", s)
		}
		// What is said of it by us is heard as the same.
		again := probe(s.addr, s.mac)
		if !s.probing {
			again = announcement(s.addr, s.mac)[0]
		}
		if s.addr.IsUnspecified() {
			return // nothing is said of that
		}
		if got, ok := parse(again); !ok || got.addr != s.addr || !bytes.Equal(got.mac, s.mac) || got.probing != s.probing {
			t.Fatalf("%+v, again %+v %v", s, got, ok)
		}
	})
}

// Whatever a kernel says of interfaces, addresses, routes and rules is read, or
// is not.
func FuzzKernel(f *testing.F) {
	e := netlink.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, "lan0")
	e.Bytes(unix.IFLA_ADDRESS, mustMAC(firstMAC))
	attrs, err := e.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(unix.RTM_NEWLINK), append([]byte{0, 0, 1, 0, 2, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0}, attrs...))
	f.Add(uint16(unix.RTM_NEWADDR), []byte{2, 32, 0x80, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 7, 0, 100})
	f.Add(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE), []byte("\x01\x00\x00\x00\x13\x00\x01\x00draas_vip_shop\x00\x00\x0a\x00\x02\x00permit\x00\x00"))
	r := newRuleset("shop", []netip.Addr{addr(vip4), addr(vip6)})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		if l, ok := parseLink(data); ok && (l.name == "" || l.index <= 0 || l.mac != nil && len(l.mac) != 6) {
			t.Fatalf("%+v", l)
		}
		if p, ok := parsePlaced(data); ok && (!p.addr.IsValid() || p.index <= 0) {
			t.Fatalf("%+v", p)
		}
		isLocal(data)
		r.touchedBy(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: data})
	})
}

// A renewal's own messages are not a change by others, and another's table is
// none of ours.
func TestTouched(t *testing.T) {
	r := newRuleset("shop", []netip.Addr{addr(vip4)})
	message := func(kind uint16, attrs ...string) netlink.Message {
		e := netlink.NewAttributeEncoder()
		for i, a := range attrs {
			e.String(uint16(i+1), a)
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)}, Data: append(make([]byte, 4), b...)}
	}
	for _, c := range []struct {
		m    netlink.Message
		want bool
	}{
		{message(unix.NFT_MSG_DELTABLE, "draas_vip_shop"), true},
		{message(unix.NFT_MSG_DELTABLE, "draas_vip_web"), false},
		{message(unix.NFT_MSG_NEWRULE, "draas_vip_shop", "permit"), false},
		{message(unix.NFT_MSG_NEWRULE, "draas_vip_shop", "check"), true},
		{message(unix.NFT_MSG_DELSETELEM, "draas_vip_shop", "open"), false},
		{message(unix.NFT_MSG_DELSETELEM, "draas_vip_shop", "mine4"), true},
		{message(unix.NFT_MSG_NEWGEN, "draas_vip_shop"), false},
		{netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_CTNETLINK << 8}}, false},
		{netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE}}, true},
	} {
		if got := r.touchedBy(c.m); got != c.want {
			t.Errorf("%x %q: %v", c.m.Header.Type, c.m.Data, got)
		}
	}
}
