package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine is a Machine of a test.
type machine struct {
	*Machine
	t    *testing.T
	name string
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	m, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return &machine{Machine: m, t: t, name: name}
}

func (m *machine) write(file string, mode os.FileMode, data []byte) {
	m.t.Helper()
	if err := os.MkdirAll(m.Path(filepath.Dir(file)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.Path(file), data, mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) run(dir string, argv ...string) string {
	m.t.Helper()
	out, err := m.Run(dir, argv...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// plug joins the machine to the switch. Every address is a host of its own,
// and everybody is on the link.
func (m *machine) plug(to *machine, addresses ...string) {
	m.t.Helper()
	for _, args := range []string{
		fmt.Sprintf("link add name eth0 type veth peer name %s netns %d", m.name, to.PID()),
		"link set eth0 up",
	} {
		m.run("/", append([]string{"ip"}, strings.Fields(args)...)...)
	}
	to.run("/", "ip", "link", "set", m.name, "master", "lan", "up")
	first := ""
	for _, a := range addresses {
		if strings.Contains(a, ":") {
			m.run("/", "ip", "addr", "add", a+"/128", "dev", "eth0", "nodad")
			continue
		}
		if first == "" {
			first = a
		}
		m.run("/", "ip", "addr", "add", a+"/32", "dev", "eth0")
	}
	m.run("/", "ip", "route", "add", "default", "dev", "eth0", "src", first)
	m.run("/", "ip", "-6", "route", "add", "default", "dev", "eth0")
}

func newSwitch(t *testing.T) *machine {
	t.Helper()
	s := newMachine(t, "switch")
	s.run("/", "ip", "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
	s.run("/", "ip", "link", "set", "lan", "up")
	return s
}

// wait polls until ok, or fails the test.
func wait(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%v later, still waiting for: %s", limit, what)
		}
	}
}
