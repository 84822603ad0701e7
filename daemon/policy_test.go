package daemon

import (
	"testing"
	"time"

	"github.com/draasd/draas/config"
)

// How long moves wait for whom: an election, or a lease and a second.
func TestPolicyWaits(t *testing.T) {
	t.Parallel()
	for profile, want := range map[string][2]time.Duration{
		"metro":    {360 * time.Millisecond, 1660 * time.Millisecond},
		"fast":     {900 * time.Millisecond, 3200 * time.Millisecond},
		"balanced": {1800 * time.Millisecond, 5400 * time.Millisecond},
		"cautious": {2600 * time.Millisecond, 12 * time.Second},
	} {
		data, err := config.Loopback(config.LoopbackOptions{Profile: profile})
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse("loopback.toml", data)
		if err != nil {
			t.Fatal(err)
		}
		if p := policyOf(c); p.Take != want[0] || p.Retarget != want[1] {
			t.Errorf("%s: take %v, retarget %v, want %v", profile, p.Take, p.Retarget, want)
		}
	}
}
