package lan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab"
)

// Renewals lose no packet, of a user and of the questions who has the address.
func TestRenewalsLoseNothing(t *testing.T) {
	for _, a := range []string{vip4, vip6} {
		t.Run(a, func(t *testing.T) {
			w := borrow(t)
			h := w.open(nil, a)
			take(t, h, 10*time.Second)
			done := make(chan string)
			go func() {
				// The exit status is by what was lost, too.
				out, _ := shell(w.user, fmt.Sprintf("ping -q -c 200 -i 0.001 -W 1 %s", addr(a)))
				done <- out
			}()
			for n := 0; ; n++ {
				select {
				case out := <-done:
					if !strings.Contains(out, "200 received") || n < 20 {
						t.Errorf("%d renewals: %s", n, out)
					}
					return
				default:
					if err := h.Extend(inTime(10 * time.Second)); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// A permit that is written late, by a process that was stopped after it read the
// clock, opens nothing: each of the kernel's timer and its wall clock shuts the
// fence alone.
func TestLateWrite(t *testing.T) {
	w := borrow(t)
	serve(t, "first")
	start := now()
	clock := func() draas.Reading { return start }
	f := newFence("late", []netip.Addr{addr(vip4), addr(vip6)}, clock)
	t.Cleanup(func() {
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	})
	w.add(nil, vip4)
	w.add(nil, vip6)
	for _, c := range []struct {
		what     string
		deadline draas.Deadline
		wait     time.Duration // before it is written, from the start
		look     time.Duration // afterwards
		open     bool
	}{
		{"in time", draas.DeadlineAt(start, time.Minute), 0, 0, true},
		{"after the timer, wall clock set back", draas.Deadline{Boot: start.Boot + 100*time.Millisecond, Wall: start.Wall + time.Minute}, 0, 120 * time.Millisecond, false},
		// The clock still says start: the timer is set for a second.
		{"written late", draas.DeadlineAt(start, time.Second), 1010 * time.Millisecond, 0, false},
	} {
		eventually(t, "the time to write", func() bool { return now().Boot > start.Boot+c.wait })
		if err := f.open(c.deadline); err != nil {
			t.Fatal(err)
		}
		written := now().Boot
		eventually(t, "the time to look", func() bool { return now().Boot > written+c.look })
		for _, a := range []string{vip4, vip6} {
			said, err := visit(w.user, a, 300*time.Millisecond)
			if open := err == nil && said == "first"; open != c.open {
				t.Errorf("%s, %s: %q, %v", c.what, a, said, err)
			}
		}
		if found := w.answers(w.user, firstMAC, vip4, vip6); c.open == (len(found) == 0) {
			t.Errorf("%s: %q", c.what, found)
		}
	}
	if err := f.open(draas.DeadlineAt(start, 0)); !errors.Is(err, draas.ErrExpired) {
		t.Errorf("a deadline that has passed: %v", err)
	}
}

// The deadline is judged again when the kernel has it.
func TestPassedWhileWriting(t *testing.T) {
	borrow(t)
	start, calls := now(), 0
	f := newFence("slow", []netip.Addr{addr(vip4)}, func() draas.Reading {
		calls++
		return start.Add(time.Duration(calls) * time.Second)
	})
	t.Cleanup(func() {
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	})
	if err := f.open(draas.DeadlineAt(start, 1500*time.Millisecond)); !errors.Is(err, draas.ErrExpired) {
		t.Errorf("opened: %v", err)
	}
	elems, err := f.conn.GetSetElements(f.rules.tables[0].open)
	if err != nil || len(elems) != 0 {
		t.Errorf("open: %v, %v", elems, err)
	}
}

// What the kernel leads on to a server is fenced, too: the fence stands before
// the translation, and behind that of the answers.
func TestTranslated(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4)
	w.in(nil, "sysctl -qw net.ipv4.ip_forward=1", fmt.Sprintf(`nft 'add table ip web
		add chain ip web to { type nat hook prerouting priority dstnat; }
		add chain ip web from { type nat hook postrouting priority srcnat; }
		add rule ip web to ip daddr %s udp dport 900 dnat to 10.8.0.%d
		add rule ip web from oifname lan1 masquerade'`, addr(vip4), secondN))
	t.Cleanup(func() { w.in(nil, "sysctl -qw net.ipv4.ip_forward=0") })
	w.add(nil, vip4)
	w.in(w.user, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev lan0", addr(vip4), firstMAC))
	var user, server net.PacketConn
	listen := func(m *lab.Machine, c *net.PacketConn) {
		t.Helper()
		if err := m.Inside(func() (err error) {
			*c, err = net.ListenPacket("udp4", ":900")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	listen(w.user, &user)
	defer user.Close()
	listen(w.second, &server)
	defer server.Close()
	arrives := func(from, to net.PacketConn, at net.Addr) (net.Addr, bool) {
		t.Helper()
		if _, err := from.WriteTo([]byte("x"), at); err != nil {
			t.Fatal(err)
		}
		if err := to.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, sender, err := to.ReadFrom(make([]byte, 10))
		return sender, err == nil
	}
	vip := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(vip4), 900))
	if _, ok := arrives(user, server, vip); ok {
		t.Error("shut: a question arrives")
	}
	take(t, h, 400*time.Millisecond)
	asker, ok := arrives(user, server, vip)
	if !ok {
		t.Fatal("open: no question arrives")
	}
	if _, ok := arrives(server, user, asker); !ok {
		t.Error("open: no answer arrives")
	}
	event(t, h, Expired)
	if _, ok := arrives(server, user, asker); ok {
		t.Error("shut again: an answer arrives")
	}
	if _, ok := arrives(user, server, vip); ok {
		t.Error("shut again: a question arrives")
	}
}

// Shut means shut both ways, each by itself: what comes to the address is not
// heard, and what is sent from it is not, either.
func TestShutBothWays(t *testing.T) {
	for _, a := range []string{vip4, vip6} {
		t.Run(a, func(t *testing.T) {
			w := borrow(t)
			h := w.open(nil, a)
			w.add(nil, a)
			four := addr(a).Is4()
			here, user := netip.AddrPortFrom(addr(a), 900), netip.AddrPortFrom(addr("fd07::9/64"), 900)
			if four {
				user = netip.AddrPortFrom(addr("10.7.0.9/24"), 900)
			}
			// They know each other: nobody has to ask.
			w.in(nil, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev lan0", user.Addr(), userMAC))
			w.in(w.user, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev lan0", here.Addr(), firstMAC))
			mine, err := net.ListenPacket("udp", here.String())
			if err != nil {
				t.Fatal(err)
			}
			defer mine.Close()
			var theirs net.PacketConn
			if err := w.user.Inside(func() (err error) {
				theirs, err = net.ListenPacket("udp", user.String())
				return err
			}); err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			arrives := func(from, to net.PacketConn, at netip.AddrPort) bool {
				// The fence answers a sender of its own host with an error.
				_, _ = from.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(at))
				if err := to.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				_, _, err := to.ReadFrom(make([]byte, 10))
				return err == nil
			}
			for _, open := range []bool{false, true} {
				if open {
					take(t, h, 10*time.Second)
				}
				if arrives(theirs, mine, here) != open {
					t.Errorf("open %v: what is sent to the address", open)
				}
				if arrives(mine, theirs, user) != open {
					t.Errorf("open %v: what is sent from the address", open)
				}
			}
		})
	}
}

// Neighbour discovery about the address is fenced by what it is about, whoever it
// comes from.
func TestDiscoveryIsShut(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip6)
	w.add(nil, vip6)
	heard := w.overhear(w.user, "lan0")
	l, four, six := w.ears(w.user, "lan0")
	defer four.close()
	defer six.close()
	c, err := net.ListenPacket("ip6:ipv6-icmp", "fd07::1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.IPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hopLimit)
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	lan0, err := net.InterfaceByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	// By its number: the name may have been another's a moment ago.
	everybody := &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: strconv.Itoa(lan0.Index)}
	advertisement := announcement(addr(vip6), mustMAC(firstMAC))[0][etherLen+ip6Len:]
	question := ndFrame(ndSolicit, l.mac, addr("fd07::9/128"), solicitedNode(addr(vip6)), addr(vip6), optSourceLink)
	known := func() bool { return strings.Contains(w.in(nil, "ip neigh show fd07::9 dev lan0"), userMAC) }
	for _, open := range []bool{false, true} {
		if open {
			take(t, h, 10*time.Second)
		}
		before := len(heard.claims(addr(vip6)))
		// From another address of the host; the kernel makes its checksum right.
		if _, err := c.WriteTo(advertisement, everybody); err != nil && open {
			t.Fatal(err)
		}
		if err := six.send(question); err != nil {
			t.Fatal(err)
		}
		if open {
			eventually(t, "advertised and asked", func() bool { return len(heard.claims(addr(vip6))) > before && known() })
			continue
		}
		if got := heard.claims(addr(vip6)); len(got) > before || known() {
			t.Errorf("shut: %+v, the user is known: %v", got, known())
		}
	}
}
