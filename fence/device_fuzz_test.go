package fence

import (
	"slices"
	"strings"
	"testing"
)

// Off is what says so, in a line of its own, and nothing against it.
func FuzzReadPower(f *testing.F) {
	for _, s := range []string{"Chassis Power is off\n", "Chassis Power is on\n", "", "Chassis Power is off\nChassis Power is on\n",
		"Unable to establish\r\nChassis Power is off\r\n", "Chassis Power is off?", "the Chassis Power is off", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		power, err := readPower(said)
		off, on := strings.Contains(said, "Chassis Power is off"), strings.Contains(said, "Chassis Power is on")
		if power == PowerOff && !off || power == PowerOn && !on || (power == PowerUnknown) != (err != nil) {
			t.Fatalf("%q: %s, %v", said, power, err)
		}
		// With both words in it, both may stand in lines of other text.
		if off && on && power != PowerUnknown && strings.Contains("\n"+said+"\n", "\nChassis Power is on\n") && strings.Contains("\n"+said+"\n", "\nChassis Power is off\n") {
			t.Fatalf("%q: %s", said, power)
		}
	})
}

// FuzzUnitState: a unit is stopped only when systemctl says so in a word of its
// own, of a unit that there is.
func FuzzUnitState(f *testing.F) {
	for _, c := range []struct {
		code int
		said string
	}{{0, "active\n"}, {3, "inactive\n"}, {4, "inactive\n"}, {3, "failed\n"}, {3, "activating\n"}, {1, "Failed to connect to bus: No such file\n"},
		{1, "failed to connect\n"}, {3, "\n\ninactive\r\nactive\n"}, {0, ""}, {4, "unknown\n"}, {3, "maintenance\n"}} {
		f.Add(c.code, c.said)
	}
	s := &Systemd{cfg: SystemdConfig{Unit: "shop.service"}}
	f.Fuzz(func(t *testing.T, code int, said string) {
		state, err := s.read(outcome{code: code, output: said})
		says := func(words ...string) bool {
			line := strings.TrimSpace(strings.SplitN(strings.TrimLeft(said, "\n"), "\n", 2)[0])
			return slices.Contains(words, line)
		}
		want := Unknown
		switch {
		case says("inactive", "failed") && code != 4:
			want = Closed
		case says("active", "reloading", "activating", "deactivating", "refreshing"):
			want = Open
		}
		if state != want || (err != nil) != (want == Unknown) || err != nil && len(err.Error()) > 1000 {
			t.Fatalf("exit code %d, %q: %s, %v, want %s", code, said, state, err, want)
		}
	})
}
