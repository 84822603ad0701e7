package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/schemes/hybrid"
)

// missing is what a move was complete without; it may be nil.
func missing(m *failover.Move) string {
	if m == nil {
		return ""
	}
	text := ""
	for _, step := range m.Plan.Steps {
		if what := hybrid.Missing(m.Journal[step.Name].Evidence); what != "" {
			text += fmt.Sprintf("; %s: %s", step.Name, what)
		}
	}
	return text
}

// halves says how the halves of a hybrid stand, a line each, as the member says
// that looks after them: that of the active site.
func halves(s *api.Status, sv api.ServiceStatus) []string {
	i := slices.IndexFunc(s.Reported, func(r api.Reported) bool { return r.Member == sv.Active.Member() })
	if i < 0 || sv.Active == "" {
		return nil
	}
	var out []string
	for _, u := range s.Reported[i].Users {
		step, half, composed := strings.Cut(u.Step, "/")
		if u.Service != sv.ID || !composed {
			continue
		}
		if _, part, named := strings.Cut(step, ":"); named {
			half += " of " + part
		}
		state := map[string]string{"yes": "as decided", "no": "NOT as decided"}[u.AsDecided]
		if state == "" {
			state = "not known"
		}
		line := fmt.Sprintf("by %s: %s since %s", half, state, u.Since.UTC().Format(time.DateTime))
		if u.AsDecided != "yes" && u.Evidence != "" {
			line += ": " + u.Evidence
		}
		out = append(out, line)
	}
	return out
}
