package main

import (
	"fmt"
	"io"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
)

// writeSyncs says of each site that carries another's cloud to its own how far
// it is.
func writeSyncs(w io.Writer, s *api.Status) {
	first := true
	for _, r := range s.Reported {
		late := r.Sync != nil && r.Sync.Users != nil && r.Sync.Users.Error != ""
		if r.Sync == nil || r.Sync.Source == "" && !late {
			continue
		}
		if first {
			fmt.Fprintln(w)
		}
		first = false
		if late {
			writeText(w, markDisagree, fmt.Sprintf("sync: users at %s are not enabled yet: %s", r.Member, r.Sync.Users.Error))
			continue // an active site follows no other
		}
		mark := markNone
		switch {
		case r.Sync.Held || r.Sync.Failures > 0 || r.Sync.Stuck > 0:
			mark = markDisagree
		case !r.Sync.Known:
			mark = markUnknown
		}
		writeText(w, mark, "sync: "+syncLine(string(r.Member), r.Sync))
	}
}

// syncLine is how far a site's cloud is behind.
func syncLine(member string, s *api.SyncBrief) string {
	text := fmt.Sprintf("%s follows %s, ", member, s.Source)
	if s.Known {
		text += fmt.Sprintf("%s behind, %d pending", (time.Duration(s.BehindMS) * time.Millisecond).Round(time.Second), s.Objects)
	} else {
		text += "how far it is behind is not known"
	}
	switch {
	case s.Held:
		text += "; it waits for a person: draasd sync plan"
	case s.Failures > 0:
		text += fmt.Sprintf("; the last %d runs have failed: %s", s.Failures, s.Error)
	case s.Stuck > 0:
		text += fmt.Sprintf("; %d cannot be carried: draasd sync plan", s.Stuck)
	case s.Running:
		text += "; a run is under way"
	}
	return text
}

// behindText is how far the copy of a service is behind at a site, or at those
// that it may move to, as the log knows it.
func behindText(sv api.ServiceStatus, to draas.SiteID) string {
	for _, l := range sv.Lags {
		if l.Known && (l.Site == to || to == "" && len(sv.Lags) == 1) {
			return fmt.Sprintf("the copy at %s was %s behind when %s was last well", l.Site, (time.Duration(l.BehindMS) * time.Millisecond).Round(time.Second), sv.Active)
		}
	}
	return "how much that is is not known"
}
