package fence

import (
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
