package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas/api"
)

// vipTime is how long a virtual IP may be nobody's, or a frontend unable to have
// it, before somebody is told.
const vipTime = 5 * time.Second

// vips is about addresses that nobody has, that two have, and frontends that could
// not take them over.
func (v sight) vips() []alarm {
	var out []alarm
	for _, x := range v.wiring.cfg.VIPs {
		var has []string
		heard := false
		for _, f := range x.Holders {
			said, fresh := v.latest(x.ID, f)
			heard = heard || fresh
			if fresh && said.Has {
				has = append(has, f)
			}
			if fresh && said.Trouble != "" {
				out = append(out, alarm{key: "vip:" + x.ID + ":" + f, after: vipTime,
					text: fmt.Sprintf("frontend %s and vip %s: %s", f, x.ID, said.Trouble)})
			}
		}
		switch {
		case len(has) > 1:
			out = append(out, alarm{key: "vip-two:" + x.ID, page: true, after: vipTime,
				text: fmt.Sprintf("vip %s: MORE THAN ONE FRONTEND SAYS THAT IT HAS IT: %s", x.ID, strings.Join(has, " "))})
		case len(has) == 0 && heard:
			out = append(out, alarm{key: "vip-nobody:" + x.ID, page: v.leads(), after: vipTime,
				text: fmt.Sprintf("vip %s: no frontend has it: users do not reach %s", x.ID, strings.Join(addresses(x), " "))})
		}
	}
	return out
}

// latest is what a frontend said of a virtual IP to the member that heard it last.
func (v sight) latest(vip, frontend string) (said api.VIPHolder, fresh bool) {
	said.HeardMS = -1
	for _, r := range v.status.Reported {
		i := slices.IndexFunc(r.VIPs, func(x api.VIPSeen) bool { return x.VIP == vip })
		if i < 0 {
			continue
		}
		for _, h := range r.VIPs[i].Holders {
			if h.Frontend == frontend && h.HeardMS >= 0 && (said.HeardMS < 0 || h.HeardMS < said.HeardMS) {
				said = h
			}
		}
	}
	return said, said.HeardMS >= 0 && said.HeardMS < api.FrontendFresh.Milliseconds()
}
