package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// Marks in front of a line.
const (
	markNone     = "  "
	markDisagree = "! " // decided and reported disagree
	markUnknown  = "? " // could not be asked
)

// The fence states of api.FenceStatus.
const (
	fenceOpen   = "open"
	fenceClosed = "closed"
)

const stamp = "2006-01-02 15:04:05.000"

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// writeStatus draws the whole picture, what is wrong first.
func writeStatus(w io.Writer, s *api.Status) {
	for _, sv := range s.Services {
		for _, p := range sv.Parts {
			writeTwoOpen(w, s, asPart(sv, p))
		}
		if len(sv.Parts) == 0 {
			writeTwoOpen(w, s, sv)
		}
	}
	leader := "no leader"
	if s.Leader != "" {
		leader = "leader " + string(s.Leader)
	}
	writeText(w, "", fmt.Sprintf("cluster %s, seen by %s at %s UTC: %s, profile %s, policy %.12s",
		s.Cluster, s.Self, s.At.UTC().Format(time.TimeOnly), leader, s.Profile, s.Policy))
	if len(s.Warnings) > 0 {
		fmt.Fprintln(w)
		for _, warning := range s.Warnings {
			writeText(w, markDisagree, warning)
		}
	}
	for _, sv := range s.Services {
		fmt.Fprintln(w)
		writeService(w, s, sv)
	}
	fmt.Fprintln(w)
	writeMembers(w, s)
	writeFrontends(w, s)
	writeVIPsSeen(w, s)
	writeSyncs(w, s)
}

// writeTwoOpen shouts when more than one site's fence is open: the one thing
// that must never be.
func writeTwoOpen(w io.Writer, s *api.Status, sv api.ServiceStatus) {
	var open []string
	for _, r := range s.Reported {
		if f, ok := fenceOf(r, sv.ID); ok && f.State == fenceOpen {
			open = append(open, fmt.Sprintf("%s (epoch %d)", r.Member, f.Epoch))
		}
	}
	if len(open) < 2 {
		return
	}
	writeText(w, "!!! ", fmt.Sprintf("TWO SITES REPORT AN OPEN FENCE FOR %s: %s. Decided is %s, epoch %d. Ask again at once; if it stays, close the other by hand.",
		sv.ID, strings.Join(open, ", "), orNone(string(sv.Active)), sv.Epoch))
	fmt.Fprintln(w)
}

func fenceOf(r api.Reported, id draas.ServiceID) (api.FenceStatus, bool) {
	for _, f := range r.Fences {
		if f.Service == id {
			return f, true
		}
	}
	return api.FenceStatus{}, false
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// headline says in one line where a service stands.
func headline(sv api.ServiceStatus) string {
	if sv.Active == "" {
		return fmt.Sprintf("%s: %s, active nowhere", sv.ID, sv.Phase)
	}
	return fmt.Sprintf("%s: %s, active at %s, epoch %d", sv.ID, sv.Phase, sv.Active, sv.Epoch)
}

func writeService(w io.Writer, s *api.Status, sv api.ServiceStatus) {
	writeText(w, "", headline(sv))
	automatic := "on"
	if !sv.Automatic {
		automatic = "off"
	}
	if len(sv.Parts) > 0 {
		writeText(w, "  ", fmt.Sprintf("group of %s; home %s, automatic moves %s", partNames(sv), sv.Home, automatic))
	} else {
		writeText(w, "  ", fmt.Sprintf("scheme %s, fence %s, home %s, automatic moves %s", sv.Scheme, sv.Fence, sv.Home, automatic))
	}
	for _, line := range slices.Concat(conditions(sv), halves(s, sv)) {
		writeText(w, "  ", line)
	}
	if sv.Move != nil {
		writeText(w, "  ", "now: "+moveLine(sv.Move))
	}
	if sv.Last != nil {
		writeText(w, "  ", "last: "+moveLine(sv.Last))
	}
	if len(sv.Parts) > 0 {
		writeParts(w, s, sv)
		return
	}
	rows := [][]string{{markNone + "SITE", "DECIDED", "FENCE", "PERMIT", "SEEN BY"}}
	for _, m := range s.Members {
		if m.Role == draas.RoleSite {
			rows = append(rows, siteRow(s, sv, m.ID))
		}
	}
	writeTable(w, "  ", rows)
}

// writeParts draws each service of a group at each site.
func writeParts(w io.Writer, s *api.Status, sv api.ServiceStatus) {
	rows := [][]string{{markNone + "SITE", "DECIDED", "SERVICE", "FENCE", "PERMIT", "SEEN BY"}}
	for _, m := range s.Members {
		if m.Role != draas.RoleSite {
			continue
		}
		for _, p := range sv.Parts {
			row := siteRow(s, asPart(sv, p), m.ID)
			rows = append(rows, append([]string{row[0], row[1], fmt.Sprintf("%s (%s)", p.ID, p.Fence)}, row[2:]...))
		}
	}
	writeTable(w, "  ", rows)
}

// asPart is one service of a group, with what is decided of the group.
func asPart(sv api.ServiceStatus, p api.Part) api.ServiceStatus {
	part := sv
	part.ID, part.Scheme, part.Fence, part.Views = p.ID, p.Scheme, p.Fence, nil
	for _, v := range sv.Views {
		if v.Service == p.ID {
			part.Views = append(part.Views, v)
		}
	}
	return part
}

func partNames(sv api.ServiceStatus) string {
	var names []string
	for _, p := range sv.Parts {
		names = append(names, string(p.ID))
	}
	return strings.Join(names, ", ")
}

// conditions are what an automatic move would have to reckon with, a line
// each.
func conditions(sv api.ServiceStatus) []string {
	var out []string
	if sv.Pause != nil {
		out = append(out, pauseLine(sv.Pause))
	}
	for _, e := range sv.Entries {
		out = append(out, entryLine(sv, e))
	}
	for _, l := range sv.Lags {
		behind := "not known"
		if l.Known {
			behind = (time.Duration(l.BehindMS) * time.Millisecond).String() + " behind"
		}
		out = append(out, fmt.Sprintf("copy at %s: %s", l.Site, behind))
	}
	for _, f := range sv.Flaps {
		text := fmt.Sprintf("failed %d times at %s of late", f.Failures, f.Site)
		if f.Failures == 1 {
			text = fmt.Sprintf("failed once at %s of late", f.Site)
		}
		if f.Failures >= f.Limit {
			text += ": no automatic move goes there"
		}
		out = append(out, text)
	}
	return out
}

// entryLine says where users come in.
func entryLine(sv api.ServiceStatus, e api.Entry) string {
	who := "users"
	if e.Service != sv.ID {
		who = "users of " + string(e.Service)
	}
	text := fmt.Sprintf("%s enter at %s", who, e.Site)
	if e.Turn > 0 {
		text += fmt.Sprintf(" since %s, turn %d", e.Since.UTC().Format(time.DateTime), e.Turn)
	}
	if e.Operator != "" {
		text += ", by " + e.Operator
	}
	if e.Site != sv.Active && sv.Active != "" {
		text += ", and are led on to " + string(sv.Active)
	}
	if e.Refused != "" {
		text += ": no frontend is heard there"
	}
	return text
}

func pauseLine(p *failover.Pause) string {
	return fmt.Sprintf("paused by %s until %s: %s", p.Operator, p.Since.Add(p.For).UTC().Format(time.DateTime), p.Reason)
}

func moveLine(m *failover.Move) string {
	text := string(m.Kind)
	if m.From != "" {
		text += " from " + string(m.From)
	}
	text += fmt.Sprintf(" to %s, epoch %d", m.To, m.Epoch)
	if m.Operator != "" {
		text += ", by " + m.Operator
	}
	if !m.Times.Decided.IsZero() {
		text += ", " + m.Times.Decided.UTC().Format(time.DateTime)
	}
	if m.Reason != "" {
		text += ": " + m.Reason
	}
	return text + missing(m)
}

// siteRow sets what is decided of a service at a site beside what the site
// reports and what others see.
func siteRow(s *api.Status, sv api.ServiceStatus, member draas.MemberID) []string {
	site := member.Site()
	said, fence, permit := decidedOf(sv, site), "not asked", "-"
	mark := markUnknown
	for _, r := range s.Reported {
		if r.Member != member {
			continue
		}
		f, known := fenceOf(r, sv.ID)
		switch {
		case sv.Fence == draas.FenceNone:
			fence, mark = "none", markNone
		case !known && r.Error != "":
			fence = "no answer"
		case !known:
			fence = "unknown"
		default:
			fence, mark = f.State, judge(sv, site, f)
			if f.State == fenceOpen {
				fence = fmt.Sprintf("open (epoch %d)", f.Epoch)
			}
			if f.PermitLeftMS > 0 {
				permit = fmt.Sprintf("%.2f s", float64(f.PermitLeftMS)/1000)
			}
		}
	}
	return []string{mark + string(site), said, fence, permit, seenBy(sv, site)}
}

// decidedOf is what the log says of a site.
func decidedOf(sv api.ServiceStatus, site draas.SiteID) string {
	fencing := sv.Phase == failover.PhaseFencing
	switch {
	case sv.Active == site && fencing && sv.Move != nil && sv.Move.To == site:
		return "revoked, next"
	case sv.Active == site && fencing:
		return "revoked"
	case sv.Active == site:
		return "active"
	case fencing && sv.Move != nil && sv.Move.To == site:
		return "next"
	}
	return "standby"
}

// judge holds a guard's report against the decision.
func judge(sv api.ServiceStatus, site draas.SiteID, f api.FenceStatus) string {
	switch {
	case f.State != fenceOpen && f.State != fenceClosed:
		return markUnknown
	case f.Error != "":
		return markDisagree
	case sv.Active == site && f.State == fenceClosed && !sv.Phase.Moving():
		return markDisagree // decided active, serves nobody
	case f.State == fenceOpen && (sv.Active != site || f.Epoch != sv.Epoch):
		return markDisagree // open without the epoch in force
	}
	return markNone
}

// seenBy lists every vantage's verdict of a service at a site. Only what is
// active is looked at by others than the site itself.
func seenBy(sv api.ServiceStatus, site draas.SiteID) string {
	var parts []string
	for _, v := range sv.Views {
		if v.Site != site {
			continue
		}
		text := fmt.Sprintf("%s %s", v.Vantage, v.Verdict)
		if v.Verdict != draas.Healthy && v.Class != "" {
			text += " (" + v.Class + ")"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}

func writeMembers(w io.Writer, s *api.Status) {
	rows := [][]string{{markNone + "MEMBER", "ROLE", "DOMAIN", "ANSWERS", "LEADER", "APPLIED", "FILE", "SUSPICIONS", "DAEMON SEEN BY"}}
	for _, m := range s.Members {
		rows = append(rows, memberRow(s, m))
	}
	writeTable(w, "", rows)
	for _, r := range s.Reported {
		if r.Error != "" {
			writeText(w, markUnknown, fmt.Sprintf("%s: %s", r.Member, r.Error))
		}
	}
}

func memberRow(s *api.Status, m api.MemberStatus) []string {
	mark, answers, leader, applied, suspicions := markUnknown, "not asked", "-", "-", "-"
	for _, r := range s.Reported {
		if r.Member != m.ID {
			continue
		}
		// A member that answers has applied something, its own start at the
		// least.
		if r.Error != "" && r.Applied == 0 {
			answers = "no"
			continue
		}
		mark, answers, leader = markNone, "yes", orNone(string(r.Leader))
		applied, suspicions = fmt.Sprint(r.Applied), fmt.Sprint(r.Suspicions)
		if !r.InTouch || r.Leader != s.Leader {
			mark = markDisagree
		}
		if r.Error != "" {
			mark = markUnknown
		}
	}
	file := "same"
	switch {
	case !m.Started:
		file = "-" // a warning says so
	case !m.SameConfig:
		file, mark = "DIFFERS", markDisagree
	}
	return []string{mark + string(m.ID), string(m.Role), m.Domain, answers, leader, applied, file, suspicions, daemonSeenBy(m)}
}

// daemonSeenBy is how the other members see a member's daemon.
func daemonSeenBy(m api.MemberStatus) string {
	all := true
	var seen []string
	for _, id := range sortedKeys(m.SeenBy) {
		all = all && m.SeenBy[id] == draas.Healthy
		seen = append(seen, fmt.Sprintf("%s %s", id, m.SeenBy[id]))
	}
	if all && len(seen) > 0 {
		return "all healthy"
	}
	return strings.Join(seen, ", ")
}

// writeCost says what a forced failover does and what it costs.
func writeCost(w io.Writer, sv api.ServiceStatus, r api.Request) {
	to := r.Site
	target := "the first other site that is fit"
	if to != "" {
		target = string(to)
	}
	writeText(w, "", fmt.Sprintf("Forced failover of %s to %s", sv.ID, target))
	writeText(w, "  now:  ", headline(sv))
	healthy := false
	if sv.Active != "" {
		writeText(w, "  seen: ", fmt.Sprintf("%s: %s", sv.Active, seenBy(sv, sv.Active)))
		for _, v := range sv.Views {
			healthy = healthy || v.Site == sv.Active && v.Verdict == draas.Healthy
		}
		writeText(w, "  does: ", fmt.Sprintf("takes the permit of epoch %d from %s, waits until it is closed or its lease is over, makes %s active under a new epoch, and sends the users there",
			sv.Epoch, sv.Active, target))
		writeText(w, "  loses: ", fmt.Sprintf("every open connection to %s, and whatever was written there and has not reached the new site: %s", sv.Active, behindText(sv, to)))
	}
	if r.AllowDataLoss {
		writeText(w, "  ! ", "you allow the loss of what has not been copied, however much it is")
	}
	if r.Vouch {
		writeText(w, "  ! ", fmt.Sprintf("you vouch that %s does not serve %s and will not: if it does, two sites serve and their data part", sv.Active, sv.ID))
	}
	if healthy {
		writeText(w, "  ! ", fmt.Sprintf("%s is seen healthy: draasd switchover %s would hand over", sv.Active, sv.ID))
	}
}

// writeWhy answers why a service is where it is.
func writeWhy(w io.Writer, y *api.Why) {
	writeText(w, "", headline(api.ServiceStatus{ID: y.Service, Phase: y.Phase, Active: y.Active, Epoch: y.Epoch}))
	fmt.Fprintln(w)
	against := 0
	for _, r := range y.Now {
		if !r.OK && r.Code != failover.ReasonVantage {
			against++
		}
	}
	switch against {
	case 0:
		fmt.Fprintln(w, "It would move by itself now:")
	case 1:
		fmt.Fprintln(w, "It would not move by itself now, one condition is not met:")
	default:
		fmt.Fprintf(w, "It would not move by itself now, %d conditions are not met:\n", against)
	}
	writeReasons(w, "  ", y.Now)
	fmt.Fprintln(w)
	if len(y.Decisions) == 0 {
		fmt.Fprintln(w, "Nothing was decided or refused yet.")
		return
	}
	fmt.Fprintln(w, "Decided and refused, newest first (UTC):")
	for _, r := range y.Decisions {
		writeText(w, "  "+r.At.UTC().Format(stamp)+"  ", fmt.Sprintf("%s: %s (epoch %d)%s", r.Kind, r.Text, r.Epoch, missing(r.Move)))
		writeReasons(w, "      ", r.Reasons)
	}
}

// writeHistory writes a line per record, oldest first.
func writeHistory(w io.Writer, records []failover.Record) {
	for _, r := range records {
		about, epoch := "-", "-"
		if r.Service != "" {
			about = string(r.Service)
		}
		if r.Epoch != 0 {
			epoch = fmt.Sprint(r.Epoch)
		}
		text := r.Text
		if r.Kind == failover.RecordDone {
			text += missing(r.Move)
		}
		for _, reason := range r.Reasons {
			// A refusal without what stood against it would tell nothing.
			if r.Kind == failover.RecordRefusal && !reason.OK && reason.Code != failover.ReasonVantage {
				text += "; " + reason.Text
			}
		}
		fmt.Fprintf(w, "%s  %-8s  epoch %-3s  %s  %s\n", r.At.UTC().Format(stamp), clean(string(r.Kind)), epoch, clean(about), clean(text))
	}
}
