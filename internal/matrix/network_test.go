package matrix

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echo answers every connection to a machine's address until the test ends.
func echo(t *testing.T, n *network, machine, at string) {
	t.Helper()
	var ln net.Listener
	err := n.machines[machine].Inside(func() (err error) {
		ln, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "here\n")
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
}

// reaches says whether a machine reaches an address, and how long that took.
func reaches(t *testing.T, n *network, machine, at string, patience time.Duration) (bool, time.Duration) {
	t.Helper()
	var took time.Duration
	err := n.machines[machine].Inside(func() error {
		from := time.Now()
		c, err := net.DialTimeout("tcp", at, patience)
		took = time.Since(from)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return err == nil, took
}

// Between two places packets take their time; a machine that is off is not
// reached, and says nothing; what is cut does not pass, and the rest does.
func TestNetwork(t *testing.T) {
	t.Parallel()
	const way = 5 * time.Millisecond
	n := testNetwork(t, "1ms,dr-outside="+way.String())
	at := address(dr, hostMember) + ":7000"
	echo(t, n, dr, at)
	// The first packets also wait for addresses to be resolved.
	reaches(t, n, users, at, 5*time.Second)
	ok, took := reaches(t, n, users, at, 5*time.Second)
	if !ok || took < 2*way {
		t.Errorf("reached (%v) after %v, the way there and back is %v", ok, took, 2*way)
	}
	hidden := func(what string) {
		t.Helper()
		if ok, took := reaches(t, n, users, at, 300*time.Millisecond); ok || took < 250*time.Millisecond {
			t.Errorf("%s: reached %v, known after %v", what, ok, took)
		}
	}
	seen := func(what string) {
		t.Helper()
		if ok, _ := reaches(t, n, users, at, 5*time.Second); !ok {
			t.Errorf("%s: not reached", what)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(n.reach(false, dr))
	hidden("it is off")
	must(n.reach(true, dr))
	seen("it is on again")
	for _, c := range []cut{{From: dr}, {To: dr}, {From: outside, To: dr}, {From: dr, To: outside}, {To: dr, Port: 7000}} {
		must(n.sever(c, cut{From: witness}))
		hidden("cut")
		must(n.join(c))
		seen("joined")
		must(n.join(cut{From: witness}))
	}
	refusal := cut{From: outside, To: dr, Port: 7000, Refuse: true}
	must(n.sever(refusal))
	if ok, took := reaches(t, n, users, at, 5*time.Second); ok || took > 4*time.Second {
		t.Errorf("refused: reached %v, known after %v", ok, took)
	}
	must(n.join(refusal))
	seen("not refused any more")
	must(n.sever(cut{To: dr, Port: 53}, cut{From: dr, To: primary}))
	seen("something else is cut")
}

func TestRuleset(t *testing.T) {
	got := ruleset([]cut{{From: primary}, {To: edge}, {From: primary, To: dr, Port: 53}, toCloud})
	for _, want := range []string{
		"ip saddr { 10.91.1.0/24, 10.91.11.0/24 } ip daddr != { 10.91.1.0/24, 10.91.11.0/24 } drop\n",
		"ip saddr != { 10.91.4.0/24 } ip daddr { 10.91.4.0/24 } drop\n",
		"ip saddr { 10.91.1.0/24, 10.91.11.0/24 } ip daddr { 10.91.2.0/24, 10.91.12.0/24 } meta l4proto { tcp, udp } th dport 53 drop\n",
		"ip saddr { 10.91.2.0/24, 10.91.12.0/24 } ip daddr { 10.91.1.0/24, 10.91.11.0/24 } tcp dport 5000 reject with tcp reset\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestWays(t *testing.T) {
	var w Ways
	for _, bad := range []string{"", "x", "-1ms", "primary-dr=5ms", "1ms,2ms", "1ms,primary=5ms", "1ms,primary-primary=5ms", "1ms,primary-moon=5ms"} {
		if err := w.Set(bad); err == nil {
			t.Errorf("%q is taken for ways: %v", bad, w.String())
		}
	}
	const text = "1ms,primary-dr=5ms,dr-outside=20ms"
	if err := w.Set(text); err != nil || w.String() != text {
		t.Errorf("%q is read as %q, %v", text, w.String(), err)
	}
	packet := func(from, to string) []byte {
		p := append([]byte{0x45}, make([]byte, 19)...)
		copy(p[12:], net.ParseIP(from).To4())
		copy(p[16:], net.ParseIP(to).To4())
		return p
	}
	for _, c := range []struct {
		from, to string
		want     time.Duration
	}{
		{address(primary, hostMember), address(dr, hostMember), 5 * time.Millisecond},
		{serviceAddress(dr), serviceAddress(primary), 5 * time.Millisecond},
		{address(outside, hostResolver), serviceAddress(dr), 20 * time.Millisecond},
		{address(outside, hostResolver), serviceAddress(primary), time.Millisecond},
	} {
		if got := w.of(packet(c.from, c.to)); got != c.want {
			t.Errorf("from %s to %s in %v, want %v", c.from, c.to, got, c.want)
		}
	}
	if got := w.of([]byte{0x45}); got != time.Millisecond {
		t.Errorf("a broken packet takes %v", got)
	}
}
