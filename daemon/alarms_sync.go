package daemon

import (
	"fmt"
	"time"

	"github.com/draasd/draas/api"
)

// When a replication that does not get on wants a person: what one run or two
// have met passes by itself.
const (
	syncFailures = 3
	alarmSync    = 10 * time.Second
)

// carrying is what keeps this member's cloud from being ready.
func (v sight) carrying() []alarm {
	r := v.reported(v.status.Self)
	if r == nil || r.Sync == nil || r.Sync.Source == "" {
		return nil
	}
	s, self := r.Sync, string(v.status.Self)
	var out []alarm
	add := func(what, text string) {
		out = append(out, alarm{key: what + ":" + self, service: s.Follows, page: true, after: alarmSync, text: text})
	}
	switch {
	case s.Held:
		add("sync-held", fmt.Sprintf("%s: what %s has waits for a person before it is carried here, for %s was active itself: draasd sync plan shows what differs, and draasd sync run --accept keep, drop or merge goes on", self, s.Source, self))
		out[0].command = "draasd sync plan"
	case s.Failures >= syncFailures:
		add("sync", fmt.Sprintf("%s: what %s has is not carried here, %d runs have failed: %s", self, s.Source, s.Failures, s.Error))
	}
	if !s.Held && s.Stuck+s.Differ > 0 {
		add("sync-left", leftText(self, s))
		out[len(out)-1].page = false
	}
	if a, late := v.behind(s); late {
		out = append(out, a)
	}
	return out
}

// leftText is about objects that wait for a person, one by one.
func leftText(self string, s *api.SyncBrief) string {
	text := ""
	if s.Stuck > 0 {
		text = fmt.Sprintf("%d objects of what %s has could not be carried here, and the copy counts as behind until they are", s.Stuck, s.Source)
	}
	if s.Differ > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%d objects were changed here by others, and are left so", s.Differ)
	}
	return fmt.Sprintf("%s: %s: draasd sync plan", self, text)
}

// behind is about a copy that is further behind than a move may lose.
func (v sight) behind(s *api.SyncBrief) (alarm, bool) {
	most := v.state.Policy.Services[s.Follows].MaxLoss
	was := time.Duration(s.BehindMS) * time.Millisecond
	if most == 0 || s.Known && was <= most {
		return alarm{}, false
	}
	a := alarm{key: "sync-behind:" + string(v.status.Self), service: s.Follows, after: alarmSync, page: s.Known,
		text: fmt.Sprintf("%s: how far the copy of what %s has is behind is not known, so that %s does not move here by itself", v.status.Self, s.Source, s.Follows)}
	if s.Known {
		a.text = fmt.Sprintf("%s: the copy of what %s has is %s behind, %s is allowed: %s does not move here by itself", v.status.Self, s.Source, was.Round(time.Second), most, s.Follows)
	}
	return a, true
}
