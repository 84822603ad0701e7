package main

import (
	"time"

	"github.com/draasd/draas/api"
)

// hybridStatus is a hybrid whose users enter at the other site than the active
// one, and whose name somebody else has changed in one of its zones; the halves
// of a part of a group are told beside it.
func hybridStatus() *api.Status {
	s := healthyStatus()
	sv := &s.Services[0]
	sv.Scheme = "hybrid"
	sv.Entries = []api.Entry{{Service: "shop", Site: "dr", Turn: 1, Since: noon.Add(-time.Minute)}}
	seen := []api.FrontendSeen{
		{Frontend: "east-edge", HeardMS: 9000, Services: []api.FollowReport{{Service: "shop", Epoch: 3, Site: "primary", State: "open"}}},
		{Frontend: "west-edge", HeardMS: 120, Services: []api.FollowReport{{Service: "shop", Epoch: 3, Site: "primary", State: "open", Flights: 12}}},
	}
	s.Reported[1].Frontends = seen
	s.Reported[1].Users = []api.UserPath{
		{Service: "shop", Step: "hybrid/dns", AsDecided: "yes", Evidence: "epoch=3 site=dr turn=1", Since: noon.Add(-time.Minute)},
		{Service: "shop", Step: "hybrid/dns@cloud", AsDecided: "no", Evidence: "192.0.2.66 at ns1.example.net", Since: noon.Add(-time.Hour)},
		{Service: "shop", Step: "hybrid:cart/frontend", AsDecided: "unknown", Evidence: "no frontend of cart was heard", Since: noon.Add(-time.Hour)},
		{Service: "other", Step: "hybrid/dns", AsDecided: "no", Evidence: "of another service", Since: noon},
		{Service: "shop", Step: "dns", AsDecided: "no", Evidence: "of no hybrid", Since: noon},
	}
	// Who is not active does not look after it.
	s.Reported[0].Users = []api.UserPath{{Service: "shop", Step: "hybrid/frontend", AsDecided: "no", Evidence: "of another member", Since: noon}}
	s.Warnings = []string{"users of shop enter at dr and are led on to primary: they are served, by a detour"}
	return s
}
