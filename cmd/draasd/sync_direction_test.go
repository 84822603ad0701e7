package main

import (
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/failover"
)

// The direction, and the epoch, are those of what is followed, and the target is
// the site that is asked: it has the records.
func TestSyncDirection(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*api.Status)
		want   string // of the error; empty: from primary to dr
	}{
		{"standing by", func(*api.Status) {}, ""},
		{"another service elsewhere", func(s *api.Status) {
			s.Services = append([]api.ServiceStatus{{ID: "mail", Active: "dr", Epoch: 77}}, s.Services...)
		}, ""},
		{"at the active site", func(s *api.Status) { s.Self = "primary" }, "run it at a site with a cloud that stands by"},
		{"at the witness", func(s *api.Status) { s.Self = "witness" }, "run it at a site with a cloud that stands by"},
		{"without its cloud", func(s *api.Status) { s.Services[0].Active = "moon" }, "moon is active, and has no cloud"},
		{"a move", func(s *api.Status) { s.Services[0].Move = &failover.Move{To: "dr"} }, "shop is not at rest"},
		{"nothing of it", func(s *api.Status) { s.Services[0].ID = "mail" }, "there is no shop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			f.status.Self, f.status.Generation = "dr", 1
			f.status.Services = []api.ServiceStatus{{ID: "shop", Active: "primary", Epoch: draas.EpochOf(1, 4)}}
			tt.change(f.status)
			flags := flag.NewFlagSet("sync", flag.ContinueOnError)
			empty := ""
			o := syncFlags{client: bindClient(flags), from: &empty, to: &empty}
			if err := flags.Parse([]string{"--socket", f.socket}); err != nil {
				t.Fatal(err)
			}
			cfg := &config.Config{Sync: config.Sync{Follows: "shop", Clouds: map[draas.SiteID]string{"primary": "east", "dr": "west"}}}
			d, err := o.direction(t.Context(), &program{stdout: io.Discard, stderr: io.Discard, now: time.Now, getenv: func(string) string { return "" }}, cfg)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%+v, %v", d, err)
				}
				return
			}
			if err != nil || d.from != "primary" || d.to != "dr" || d.epoch != daemon.ReplicationEpoch(1, draas.EpochOf(1, 4)) {
				t.Fatalf("%+v, %v", d, err)
			}
			if err := d.gate.Allow(); err != nil {
				t.Errorf("may not write: %v", err)
			}
			d.gate.(*askedGate).client.Close()
		})
	}
}
