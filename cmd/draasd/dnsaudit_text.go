package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns/audit"
)

// writeAudit draws a report: what was seen, and last what to think of it.
func writeAudit(w io.Writer, r *audit.Report) {
	fmt.Fprintf(w, "looked at %s\n", r.At.UTC().Format(time.DateTime+" UTC"))
	for _, z := range r.Zones {
		fmt.Fprintf(w, "\nzone %s\n", clean(z.Zone))
		writeServers(w, z.Servers)
		for _, n := range z.Names {
			writeName(w, n)
		}
		if z.Delegation != nil {
			writeDelegation(w, z.Delegation)
		}
	}
	fmt.Fprintln(w)
	marks := map[audit.Severity]string{audit.Error: "✗ ", audit.Warn: "! ", audit.OK: "✓ "}
	count := make(map[audit.Severity]int)
	for i := range r.Findings {
		f := r.Findings[len(r.Findings)-1-i] // the worst last, where the eye is
		count[f.Severity]++
		writeText(w, marks[f.Severity], subject(f)+f.Text)
		if f.Do != "" {
			writeText(w, "  → ", f.Do)
		}
	}
	fmt.Fprintf(w, "\n%s, %s, %d in order\n", counted(count[audit.Error], "error"), counted(count[audit.Warn], "warning"), count[audit.OK])
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// subject is whom a finding is about.
func subject(f audit.Finding) string {
	var parts []string
	if f.Name != "" {
		parts = append(parts, f.Name)
	} else {
		parts = append(parts, f.Zone)
	}
	if f.From != "" {
		who := f.From
		if strings.HasPrefix(f.Code, "resolver-") || f.Code == audit.CodeFollows {
			who = "resolver " + who
		}
		parts = append(parts, who)
	}
	return strings.Join(parts, ", ") + ": "
}

func writeServers(w io.Writer, servers []audit.Apex) {
	rows := [][]string{{"SERVER", "ROLE", "SERIAL", "NEGATIVE", "NS OF ITS OWN"}}
	for _, s := range servers {
		if s.Error != "" || !s.Authoritative {
			rows = append(rows, []string{s.From, role(s.Role, string(s.Site)), "-", "-", nothingFrom(s.Error, s.Rcode)})
			continue
		}
		rows = append(rows, []string{s.From, role(s.Role, string(s.Site)), fmt.Sprint(s.Serial), fmt.Sprintf("%d s", s.Negative), strings.Join(s.NS, " ")})
	}
	writeTable(w, "  ", rows)
}

func role(role, site string) string {
	if site == "" {
		return role
	}
	return role + " " + site
}

// nothingFrom is why there is nothing to show.
func nothingFrom(err, rcode string) string {
	switch {
	case err != "":
		return err
	case rcode == "NOERROR":
		return "without authority"
	}
	return rcode
}

func writeName(w io.Writer, n audit.NameReport) {
	head := fmt.Sprintf("%s (%s), TTL %d s", n.Name, n.Service, n.TTL)
	if n.Epoch != 0 {
		head += fmt.Sprintf(": %v, %s", runbook.Token{Epoch: n.Epoch, Turn: n.Turn}, n.Site)
	}
	fmt.Fprintln(w)
	writeText(w, "  ", head)
	rows := [][]string{{"WHO", "EPOCH", "TTL", "ANSWERS"}}
	for _, a := range n.Answers {
		ttl := fmt.Sprintf("%d s", a.Longest)
		if a.Kind == audit.Resolver {
			ttl = fmt.Sprintf("%d s left", a.Longest)
		}
		epoch := "-"
		if a.Epoch != 0 {
			epoch = fmt.Sprintf("%s %s", strings.TrimPrefix(a.Token().String(), "epoch "), a.AtSite)
		}
		said := nothingFrom(a.Error, a.Rcode)
		switch {
		case a.Error != "" || a.Rcode != "NOERROR":
			ttl = "-"
		case len(a.Records) > 0:
			values := make([]string, len(a.Records))
			for i, r := range a.Records {
				values[i] = r.Value
			}
			said = strings.Join(values, " ")
		default:
			ttl, said = "-", "no record"
		}
		who := a.From
		if a.Kind == audit.Resolver {
			who = "resolver " + who
		}
		rows = append(rows, []string{who, epoch, ttl, said})
	}
	writeTable(w, "    ", rows)
}

func writeDelegation(w io.Writer, d *audit.Delegation) {
	if d.Error != "" {
		return // the finding says it
	}
	fmt.Fprintln(w)
	head := "delegation"
	if d.Parent != "" {
		head += " from " + d.Parent
	}
	asked := make([]string, len(d.Answers))
	for i, a := range d.Answers {
		asked[i] = a.From
	}
	writeText(w, "  ", head+", asked at "+strings.Join(asked, ", "))
	if len(d.Servers) == 0 {
		return
	}
	rows := [][]string{{"NS", "ADDRESS", "SAYS"}}
	for _, s := range d.Servers {
		said := "has the zone"
		if !s.Authoritative {
			said = nothingFrom(s.Error, s.Rcode)
		}
		rows = append(rows, []string{s.Name, s.Address.String(), said})
	}
	writeTable(w, "    ", rows)
}
