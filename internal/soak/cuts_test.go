package soak

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
)

func TestRules(t *testing.T) {
	got := rules([]cut{{From: primary, To: dr}, {From: witness, Percent: 30}, {To: primary, Port: 53}})
	for _, want := range []string{
		"  ip saddr 10.90.1.0/24 ip daddr 10.90.2.0/24 drop\n",
		"  ip saddr 10.90.3.0/24 ip daddr != 10.90.3.0/24 numgen random mod 100 < 30 drop\n",
		"  ip saddr != 10.90.1.0/24 ip daddr 10.90.1.0/24 meta l4proto { tcp, udp } th sport 53 drop\n",
		"  ip saddr != 10.90.1.0/24 ip daddr 10.90.1.0/24 meta l4proto { tcp, udp } th dport 53 drop\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no rule %q in\n%s", want, got)
		}
	}
}

// Faults overlap: what one takes back, another may still want.
func TestCutsOverlap(t *testing.T) {
	var loaded string
	c := &cuts{load: func(ruleset string) error { loaded = ruleset; return nil }}
	same := cutsOf(Fault{Kind: Cut, Member: primary, Other: dr})
	heal1, err1 := c.add(same)
	heal2, err2 := c.add(same)
	if err := errors.Join(err1, err2, heal1()); err != nil {
		t.Fatal(err)
	}
	if strings.Count(loaded, "drop") != 2 {
		t.Errorf("one of two cuts was taken back, and in force is\n%s", loaded)
	}
	if err := heal2(); err != nil || strings.Contains(loaded, "drop") {
		t.Errorf("all was taken back (%v), and in force is\n%s", err, loaded)
	}
}

// The router's kernel does what the cuts say: each way, each port.
func TestCutsCut(t *testing.T) {
	t.Parallel()
	needRoot(t)
	router := testRouter(t)
	a, b := machineOnRouter(t, router, primary), machineOnRouter(t, router, dr)
	c := &cuts{load: func(ruleset string) error { return loadRules(router, ruleset) }}
	ab, ba := listen(t, b, 9000), listen(t, a, 9000)
	other := listen(t, b, 9001)
	for _, tc := range []struct {
		fault                 Fault
		ab, ba, other, oneway bool // pass; oneway: a datagram from a to b
	}{
		{Fault{Kind: Cut, Member: witness, Other: dr}, true, true, true, true},
		{Fault{Kind: Cut, Member: primary, Other: dr}, false, false, false, false},
		{Fault{Kind: CutPort, Member: primary, Other: dr, Port: 9000}, false, false, true, false},
		{Fault{Kind: CutOneWay, Member: dr, Other: primary}, false, false, false, true},
		{Fault{Kind: CutOneWay, Member: primary, Other: dr}, false, false, false, false},
		{Fault{Kind: Mute, Member: dr}, false, false, false, true},
		{Fault{Kind: Deaf, Member: dr}, false, false, false, false},
		{Fault{Kind: Isolate, Member: witness}, true, true, true, true},
	} {
		t.Run(tc.fault.String(), func(t *testing.T) {
			heal, err := c.add(cutsOf(tc.fault))
			if err != nil {
				t.Fatal(err)
			}
			var got [4]bool
			var all sync.WaitGroup
			all.Go(func() { got[0] = dials(a, ab, tc.ab) })
			all.Go(func() { got[1] = dials(b, ba, tc.ba) })
			all.Go(func() { got[2] = dials(a, other, tc.other) })
			got[3] = datagrams(t, a, b, 1, patience(tc.oneway)) == 1
			all.Wait()
			if got != [4]bool{tc.ab, tc.ba, tc.other, tc.oneway} {
				t.Errorf("a to b, b to a, another port, a datagram a to b pass: %v", got)
			}
			if err := heal(); err != nil || !dials(a, ab, true) {
				t.Errorf("healed (%v), and nothing passes", err)
			}
		})
	}
}

// A part of the packets is lost: of 300, with 60 %, some 120 arrive, and 60 to
// 180 but once in 10^11 runs.
func TestCutsLose(t *testing.T) {
	t.Parallel()
	needRoot(t)
	router := testRouter(t)
	a, b := machineOnRouter(t, router, primary), machineOnRouter(t, router, dr)
	if !dials(a, listen(t, b, 9000), true) { // and from now on they know their neighbours
		t.Fatal("nothing passes")
	}
	if err := loadRules(router, rules(cutsOf(Fault{Kind: Loss, Member: primary, Other: dr, Percent: 60}))); err != nil {
		t.Fatal(err)
	}
	if n := datagrams(t, a, b, 300, time.Second); n < 60 || n > 180 {
		t.Errorf("%d of 300 arrived", n)
	}
}

// patience: what is to pass may take long on a busy machine; what is not to
// pass is given some hundred times what it takes on an idle one.
func patience(passes bool) time.Duration {
	if passes {
		return 10 * time.Second
	}
	return 150 * time.Millisecond
}

func dials(from *lab.Machine, address string, expected bool) bool {
	return from.Inside(func() error {
		conn, err := net.DialTimeout("tcp", address, patience(expected))
		if err != nil {
			return err
		}
		return conn.Close()
	}) == nil
}

func listen(t *testing.T, m *lab.Machine, port int) string {
	t.Helper()
	address := &net.TCPAddr{IP: net.ParseIP(memberAddress(m.Name)), Port: port}
	if err := m.Inside(func() error {
		ln, err := net.ListenTCP("tcp", address) // the kernel takes connections; nobody has to accept them
		if err == nil {
			t.Cleanup(func() { _ = ln.Close() })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return address.String()
}

// datagrams sends some to port 9000 and counts those that arrive by then.
func datagrams(t *testing.T, from, to *lab.Machine, n int, wait time.Duration) (arrived int) {
	t.Helper()
	address := &net.UDPAddr{IP: net.ParseIP(memberAddress(to.Name)), Port: 9000}
	var ln, conn *net.UDPConn
	err := errors.Join(
		to.Inside(func() (err error) { ln, err = net.ListenUDP("udp", address); return err }),
		from.Inside(func() (err error) { conn, err = net.DialUDP("udp", nil, address); return err }))
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		_, sent := conn.Write([]byte("x"))
		err = errors.Join(err, sent)
	}
	err = errors.Join(err, ln.SetReadDeadline(time.Now().Add(wait)))
	for arrived = 0; arrived < n; arrived++ {
		if _, _, read := ln.ReadFrom(make([]byte, 1)); read != nil {
			break
		}
	}
	if err := errors.Join(err, ln.Close(), conn.Close()); err != nil {
		t.Fatal(err)
	}
	return arrived
}
