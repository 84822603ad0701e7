package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/syncer"
)

// writeAside names the kinds that a side has not, and what was not seen.
func writeAside(w io.Writer, p *syncer.Plan) {
	var rows [][]string
	for _, k := range p.Kinds {
		if k.Missing != "" {
			rows = append(rows, []string{string(k.Kind), "not carried: " + k.Missing})
		}
		for _, u := range k.Unknown {
			rows = append(rows, []string{string(k.Kind), "not known, and left alone: " + u})
		}
		if k.Left > 0 {
			rows = append(rows, []string{string(k.Kind), fmt.Sprintf("%d left out by filters", k.Left)})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		writeTable(w, "", rows)
	}
}

// sums says how many there are of each verb.
func sums(count func(syncer.Verb) int) string {
	var parts []string
	for _, l := range planLooks {
		if n := count(l.verb); n > 0 || l.verb == syncer.Create || l.verb == syncer.Update || l.verb == syncer.Delete {
			parts = append(parts, fmt.Sprintf("%d %s", n, verbText(l.verb)))
		}
	}
	return strings.Join(parts, ", ")
}

func verbText(v syncer.Verb) string {
	i := lookOf(v)
	switch {
	case i < 0:
		return string(v)
	case v.Acts(), v == syncer.Adopt, v == syncer.Forget:
		return "to " + planLooks[i].word
	case v == syncer.Drift:
		return "changed by others"
	case v == syncer.Conflict:
		return "in conflict"
	}
	return planLooks[i].word
}

func bytesLeft(p *syncer.Plan) string {
	var all int64
	for _, k := range p.Kinds {
		all += k.Bytes
	}
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("; %s to carry", bytesText(all))
}

// bytesText is a number of bytes for people.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// epochText is a run's epoch as status shows it.
func epochText(run uint64) string { return daemon.EpochOfReplication(run).String() }

// writeResult draws what a run has done, and what it left.
func (t *planText) writeResult(r *syncer.Result) {
	rows := [][]string{{"KIND", "OBJECTS", "DONE", "FAILED", "BYTES", "UNCHANGED"}}
	for _, k := range t.plan.Kinds {
		var did syncer.KindResult
		if i := slices.IndexFunc(r.Kinds, func(d syncer.KindResult) bool { return d.Kind == k.Kind }); i >= 0 {
			did = r.Kinds[i]
		}
		done := 0
		for _, n := range did.Done {
			done += n
		}
		if k.Objects == 0 && done == 0 && did.Failed == 0 {
			continue
		}
		rows = append(rows, []string{string(k.Kind), fmt.Sprint(k.Objects), fmt.Sprint(done), fmt.Sprint(did.Failed), bytesText(did.Bytes), fmt.Sprint(k.Verbs[syncer.Unchanged])})
	}
	writeTable(t.w, "", rows)
	t.changes(func(c syncer.Change) bool {
		return !c.Verb.Acts() && c.Verb != syncer.Adopt && c.Verb != syncer.Forget
	})
	writeAside(t.w, t.plan)
	if len(r.Failures) > 0 {
		fmt.Fprintln(t.w)
	}
	for i, f := range r.Failures {
		if i == planMost && !t.all {
			writeText(t.w, "✗ ", fmt.Sprintf("and %d more (--all shows them)", len(r.Failures)-i))
			break
		}
		writeText(t.w, "✗ ", fmt.Sprintf("%s %s: %s", f.Key.Kind, nameOr(f.Name, f.Key.ID), t.named(f.Reason)))
	}
	fmt.Fprintln(t.w)
	fmt.Fprintf(t.w, "%.1f s, %d requests to %s, %d to %s\n", r.Took.Seconds(), r.SourceRequests, t.plan.Source, r.TargetRequests, t.plan.Target)
	t.advice()
}

func nameOr(name, id string) string {
	if name == "" {
		return id
	}
	return name
}

// writeSyncStatus draws how far the copy is, by kind.
func writeSyncStatus(w io.Writer, s syncer.Status, now time.Time) {
	if s.Meta.Target == "" {
		fmt.Fprintln(w, "nothing was carried yet")
		return
	}
	all := s.Lag(now)
	epoch := ""
	if s.Meta.Epoch > 0 {
		epoch = ", epoch " + epochText(s.Meta.Epoch)
	}
	writeText(w, "", fmt.Sprintf("%s is a copy of %s%s: %s", s.Meta.Target, s.Meta.Source, epoch, lagText(all)))
	rows := [][]string{{"KIND", "OBJECTS", "BEHIND", "PENDING", "BYTES", "NOTES"}}
	for _, k := range s.Kinds {
		l := k.Lag(now)
		var notes []string
		if k.Missing != "" {
			notes = append(notes, "not carried: "+k.Missing)
		}
		for _, v := range []syncer.Verb{syncer.Drift, syncer.Conflict, syncer.Blocked, syncer.Unsupported, syncer.Held} {
			if n := k.Verbs[v]; n > 0 {
				notes = append(notes, fmt.Sprintf("%d %s", n, verbText(v)))
			}
		}
		if k.Failed > 0 {
			notes = append(notes, fmt.Sprintf("%d failed", k.Failed))
		}
		if k.Error != "" {
			notes = append(notes, k.Error)
		}
		if k.Objects == 0 && l.Known && l.Age <= all.Age && k.Pending == 0 && len(notes) == 0 {
			continue // there are none at the source
		}
		behind := "not known"
		if l.Known {
			behind = ageText(l.Age)
		}
		rows = append(rows, []string{string(k.Kind), fmt.Sprint(k.Objects), behind, fmt.Sprint(k.Pending), bytesText(k.PendingBytes), strings.Join(notes, "; ")})
	}
	fmt.Fprintln(w)
	writeTable(w, "", rows)
}

func lagText(l syncer.Lag) string {
	if !l.Known {
		return "how far it is behind is not known: no run has carried everything yet"
	}
	text := ageText(l.Age) + " behind"
	if l.Objects > 0 {
		text += fmt.Sprintf(", %d objects (%s) to carry", l.Objects, bytesText(l.Bytes))
	}
	return text
}

func ageText(d time.Duration) string { return d.Round(time.Second).String() }

// writeVerification draws a complete comparison.
func writeVerification(w io.Writer, v *syncer.Verification) {
	writeText(w, "", fmt.Sprintf("%s compared with %s", v.Target, v.Source))
	rows := [][]string{{"KIND", "OBJECTS", "ALIKE", "DIFFER", "ABSENT", "EXTRA", "NOT OURS", "NOTES"}}
	for _, k := range v.Kinds {
		var notes []string
		if k.Missing != "" {
			notes = append(notes, "not carried: "+k.Missing)
		}
		for _, u := range k.Unknown {
			notes = append(notes, "not known: "+u)
		}
		if k.Unsummed > 0 {
			notes = append(notes, fmt.Sprintf("%d contents compared by size only (--bodies reads them)", k.Unsummed))
		}
		if k.BodyBytes > 0 {
			notes = append(notes, bytesText(k.BodyBytes)+" read at each site")
		}
		if k.Objects+k.Extra+k.Others == 0 && len(notes) == 0 {
			continue
		}
		rows = append(rows, []string{string(k.Kind), fmt.Sprint(k.Objects), fmt.Sprint(k.Alike), fmt.Sprint(k.Differ), fmt.Sprint(k.Absent),
			fmt.Sprint(k.Extra), fmt.Sprint(k.Others), strings.Join(notes, "; ")})
	}
	fmt.Fprintln(w)
	writeTable(w, "", rows)
	for _, m := range v.Mismatches {
		writeText(w, "! ", fmt.Sprintf("%s %s: %s", m.Key.Kind, nameOr(m.Name, m.Key.ID), m.Reason))
		(&planText{w: w}).fields(syncer.Update, m.Fields)
	}
}

// writeMap draws what stands for what.
func writeMap(w io.Writer, all []syncer.Record) {
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing was carried yet")
		return
	}
	rows := [][]string{{"KIND", "AT THE SOURCE", "AT THE TARGET", "MADE BY", "NAME"}}
	for _, r := range all {
		by, target := "others", r.Target
		if r.Created {
			by = "draas"
		}
		if target == r.Key.ID {
			target = "the same"
		}
		if target == "" {
			target = "not there yet"
		}
		rows = append(rows, []string{string(r.Key.Kind), r.Key.ID, target, by, clean(r.Name)})
	}
	// Wider than a terminal where it has to be: ids are there to be copied.
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // to a terminal
}
