package daemon

import (
	"reflect"
	"testing"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/config"
)

// Rates of one service bound that one, in the order of their names.
func TestRates(t *testing.T) {
	s := &config.Sync{Rates: []config.SyncRate{{Name: "all", Requests: 50}, {Name: "day", Service: "image", From: "07:00", To: "19:00", Bytes: 1 << 20}, {Name: "night", Service: "image", Requests: 9}}}
	if got := syncRates(s, ""); !reflect.DeepEqual(got, []cloud.Rate{{RequestsPerSecond: 50}}) {
		t.Errorf("of all: %+v", got)
	}
	want := map[string][]cloud.Rate{"image": {{From: "07:00", To: "19:00", BytesPerSecond: 1 << 20}, {RequestsPerSecond: 9}}}
	if got := serviceRates(s); !reflect.DeepEqual(got, want) {
		t.Errorf("of services: %+v", got)
	}
}
