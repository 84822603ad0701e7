package config_test

import (
	"os"
	"testing"

	"github.com/draasd/draas/config"
)

func TestTmp(t *testing.T) {
	data, err := os.ReadFile("../etc/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("failover.toml", data)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(c.Digest())
	for _, s := range c.Services {
		for _, r := range c.RTO(s.ID) {
			t.Log(s.ID, r.Disaster, r, r.Typical())
		}
	}
	t.Logf("%+v", c)
}
