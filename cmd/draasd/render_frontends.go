package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/draasd/draas/api"
)

// writeFrontends draws where the frontends lead, each as the member says that
// has heard it last.
func writeFrontends(w io.Writer, s *api.Status) {
	latest := make(map[string]api.FrontendSeen)
	by := make(map[string][]string)
	for _, r := range s.Reported {
		for _, x := range r.Frontends {
			was, known := latest[x.Frontend]
			if !known || was.HeardMS < 0 || x.HeardMS >= 0 && x.HeardMS < was.HeardMS {
				latest[x.Frontend] = x
			}
			if x.HeardMS >= 0 && x.HeardMS < api.FrontendFresh.Milliseconds() {
				by[x.Frontend] = append(by[x.Frontend], string(r.Member))
			}
		}
	}
	if len(latest) == 0 {
		return
	}
	rows := [][]string{{markNone + "FRONTEND", "SERVICE", "LEADS TO", "EPOCH", "UNDER WAY", "WAITING", "HEARD BY"}}
	for _, name := range sortedKeys(latest) {
		x := latest[name]
		if len(by[name]) == 0 {
			rows = append(rows, []string{markUnknown + name, "-", "-", "-", "-", "-", "nobody"})
			continue
		}
		for _, f := range x.Services {
			rows = append(rows, frontendRow(s, name, f, strings.Join(by[name], " ")))
		}
	}
	fmt.Fprintln(w)
	writeTable(w, "", rows)
}

// writeVIPsSeen draws who has the virtual IPs, as the member knows that has heard
// each frontend last.
func writeVIPsSeen(w io.Writer, s *api.Status) {
	seen := make(map[string]api.VIPSeen)
	latest := make(map[[2]string]api.VIPHolder)
	for _, r := range s.Reported {
		for _, v := range r.VIPs {
			seen[v.VIP] = v
			for _, h := range v.Holders {
				key := [2]string{v.VIP, h.Frontend}
				was, known := latest[key]
				if !known || was.HeardMS < 0 || h.HeardMS >= 0 && h.HeardMS < was.HeardMS {
					latest[key] = h
				}
			}
		}
	}
	if len(seen) == 0 {
		return
	}
	rows := [][]string{{markNone + "VIP", "ADDRESSES", "FRONTEND", "HAS IT", "TROUBLE"}}
	for _, id := range sortedKeys(seen) {
		for _, x := range seen[id].Holders {
			h := latest[[2]string{id, x.Frontend}]
			mark, has := markNone, "no"
			switch {
			case h.HeardMS < 0 || h.HeardMS >= api.FrontendFresh.Milliseconds():
				mark, has = markUnknown, "not heard"
			case h.Has:
				has = "yes"
			case h.Trouble != "":
				mark = markDisagree
			}
			rows = append(rows, []string{mark + id, strings.Join(seen[id].Addresses, " "), h.Frontend, has, cmp.Or(h.Trouble, "-")})
		}
	}
	fmt.Fprintln(w)
	writeTable(w, "", rows)
}

func frontendRow(s *api.Status, name string, f api.FollowReport, heard string) []string {
	mark, leads := markNone, string(f.Site)
	if f.State != "open" {
		leads = fmt.Sprintf("%s (%s)", f.State, f.Reason)
	}
	for _, sv := range s.Services {
		decided := sv.ID == f.Service || slices.ContainsFunc(sv.Parts, func(p api.Part) bool { return p.ID == f.Service })
		if decided && sv.Move == nil && sv.Active != "" && (sv.Active != f.Site || sv.Epoch != f.Epoch || f.State != "open") {
			mark = markDisagree
		}
	}
	return []string{mark + name, string(f.Service), leads, fmt.Sprint(f.Epoch), fmt.Sprint(f.Flights), fmt.Sprint(f.Held), heard}
}
