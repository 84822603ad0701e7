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

// carrying is what keeps this member's cloud from being ready, or from being used.
func (v sight) carrying() []alarm {
	r := v.reported(v.status.Self)
	if r == nil || r.Sync == nil {
		return nil
	}
	s, self := r.Sync, string(v.status.Self)
	var out []alarm
	add := func(what string, page bool, command, text string) {
		out = append(out, alarm{key: what + ":" + self, service: s.Follows, page: page, after: alarmSync, command: command, text: self + ": " + text})
	}
	if u := s.Users; u != nil && u.Error != "" && u.Failures >= syncFailures {
		add("sync-users", true, "draasd sync users enable", fmt.Sprintf("the copied users cannot log in yet, %d tries to enable them have failed, and it is tried again: %s", u.Failures, u.Error))
	}
	if s.Source == "" {
		return out
	}
	switch {
	case s.Held:
		add("sync-held", true, "draasd sync plan", fmt.Sprintf("what %s has waits for a person before it is carried here, for %s was active itself: draasd sync plan shows what differs, and draasd sync run --accept keep, drop or merge goes on", s.Source, self))
	case s.Failures >= syncFailures:
		add("sync", true, "", fmt.Sprintf("what %s has is not carried here, %d runs have failed: %s", s.Source, s.Failures, s.Error))
	}
	if !s.Held && s.Stuck+s.Differ > 0 {
		add("sync-left", false, "", leftText(s))
	}
	if a, late := v.behind(s); late {
		out = append(out, a)
	}
	return out
}

// leftText is about objects that wait for a person, one by one.
func leftText(s *api.SyncBrief) string {
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
	return text + ": draasd sync plan"
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
