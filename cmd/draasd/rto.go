package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

func bindRTO(p *program, f *flag.FlagSet) action {
	path := configFlag(f)
	asJSON := f.Bool("json", false, "print JSON, times in milliseconds")
	return func(_ context.Context, args []string) error {
		c, err := p.server.load(configPath(*path))
		if err != nil {
			return p.refused(err)
		}
		units, err := downtimes(c, args)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(p.stdout, units, "  ")
		}
		for i, u := range units {
			if i > 0 {
				fmt.Fprintln(p.stdout)
			}
			writeDowntime(p.stdout, u)
		}
		return nil
	}
}

// downtime is what a file implies for a service or a group.
type downtime struct {
	Service   draas.ServiceID `json:"service"`
	Automatic bool            `json:"automatic"`
	MaxRTO    float64         `json:"max_rto_ms,omitempty"` // what the file promises
	Disasters []disaster      `json:"disasters"`
}

type disaster struct {
	Name    string  `json:"disaster"`
	Worst   float64 `json:"worst_ms"`
	Typical float64 `json:"typical_ms"`
	Terms   []part  `json:"terms"`
}

type part struct {
	Name    string  `json:"term"`
	Worst   float64 `json:"worst_ms"`
	Typical float64 `json:"typical_ms"`
	Sets    string  `json:"sets"` // the keys that make it what it is
}

// downtimes is that of the services and groups that are named, or of all.
func downtimes(c *config.Config, named []string) ([]downtime, error) {
	var all []downtime
	units := c.Units()
	for _, name := range named {
		if !slices.ContainsFunc(units, func(u config.Unit) bool { return string(u.ID) == name }) {
			return nil, fmt.Errorf("there is no service %q that moves by itself in the file", name)
		}
	}
	for _, u := range units {
		if len(named) > 0 && !slices.Contains(named, string(u.ID)) {
			continue
		}
		d := downtime{Service: u.ID, Automatic: u.Automatic, MaxRTO: inMS(u.MaxRTO)}
		for _, r := range c.RTO(u.ID) {
			x := disaster{Name: r.Disaster, Worst: inMS(r.Worst()), Typical: inMS(r.Typical())}
			for _, t := range r.Terms {
				x.Terms = append(x.Terms, part{t.Name, inMS(t.Worst), inMS(t.Typical), t.Sets})
			}
			d.Disasters = append(d.Disasters, x)
		}
		all = append(all, d)
	}
	return all, nil
}

func inMS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// writeDowntime draws the terms of each disaster, those that are not nothing.
func writeDowntime(w io.Writer, d downtime) {
	head := string(d.Service)
	if d.MaxRTO > 0 {
		head += ": max_rto " + seconds(d.MaxRTO)
	}
	if !d.Automatic {
		head += ": moves only when somebody asks, whose time comes on top"
	}
	writeText(w, "", head)
	for i, x := range d.Disasters {
		if i > 0 {
			fmt.Fprintln(w)
		}
		rows := [][]string{{strings.ToUpper(x.Name), "WORST", "TYPICAL", "SET BY"}}
		for _, t := range x.Terms {
			if t.Worst > 0 || t.Typical > 0 {
				rows = append(rows, []string{t.Name, seconds(t.Worst), seconds(t.Typical), t.Sets})
			}
		}
		rows = append(rows, []string{"all", seconds(x.Worst), seconds(x.Typical), "from the last good answer to the first lasting one"})
		writeTable(w, "  ", rows)
	}
}

func seconds(ms float64) string { return fmt.Sprintf("%.2f s", ms/1000) }
