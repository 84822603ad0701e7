package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// askAgain is the pause before a daemon that went away is asked again.
const askAgain = time.Second

// maxRecords is what history asks for when nothing else is said.
const maxRecords = 100

// asker is a command that only asks.
type asker struct {
	*program
	client clientFlags
	json   *bool
}

func (p *program) asker(f *flag.FlagSet) *asker {
	return &asker{program: p, client: bindClient(f), json: f.Bool("json", false, "print JSON")}
}

// ask calls f with a client of the daemon.
func (a *asker) ask(ctx context.Context, timeout time.Duration, f func(context.Context, *api.Client) error) error {
	c, err := a.client.dial(a.server)
	if err != nil {
		return a.refused(err)
	}
	defer c.Close()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return f(ctx, c)
}

func writeJSON(w io.Writer, v any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

func bindStatus(p *program, f *flag.FlagSet) action {
	a := p.asker(f)
	watch := f.Bool("watch", false, "go on until interrupted")
	return func(ctx context.Context, _ []string) error {
		if *watch {
			return a.ask(ctx, 0, a.watch)
		}
		return a.ask(ctx, askTimeout, func(ctx context.Context, c *api.Client) error {
			s, err := c.Status(ctx, false)
			if err != nil {
				return err
			}
			if *a.json {
				return writeJSON(a.stdout, s, "  ")
			}
			writeStatus(a.stdout, s)
			return nil
		})
	}
}

// watch shows every change until it is interrupted, which is its proper end.
func (a *asker) watch(ctx context.Context, c *api.Client) error {
	show := a.lines()
	if _, _, terminal := a.size(a.stdout); terminal && !*a.json {
		show = a.redraw(ctx, c)
	}
	for {
		err := c.Watch(ctx, show)
		if ctx.Err() != nil {
			return nil
		}
		fmt.Fprintf(a.stderr, "draasd status: lost the daemon, asking again: %v\n", ended(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(askAgain):
		}
	}
}

// redraw draws the picture over the last one. The stream leaves out what the
// other members report, so that they are asked with every new one.
func (a *asker) redraw(ctx context.Context, c *api.Client) func(*api.Status) error {
	return func(s *api.Status) error {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		if whole, err := c.Status(ask, false); err == nil {
			s = whole
		}
		var b bytes.Buffer
		writeStatus(&b, s)
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		width, height, _ := a.size(a.stdout)
		if height > 1 && len(lines) >= height {
			lines = lines[:height-1]
		}
		var out strings.Builder
		out.WriteString("\x1b[H")
		for _, line := range lines {
			if r := []rune(line); width > 0 && len(r) > width {
				line = string(r[:width])
			}
			out.WriteString(line + "\x1b[K\n")
		}
		out.WriteString("\x1b[J")
		if _, err := io.WriteString(a.stdout, out.String()); err != nil {
			return fmt.Errorf("draw status: %w", err)
		}
		return nil
	}
}

// lines prints a line per change; with --json each status as it comes.
func (a *asker) lines() func(*api.Status) error {
	var last map[string]string
	return func(s *api.Status) error {
		if *a.json {
			return writeJSON(a.stdout, s, "")
		}
		now := facts(s)
		for _, line := range changes(last, now) {
			if _, err := fmt.Fprintf(a.stdout, "%s  %s\n", s.At.UTC().Format(stamp), clean(line)); err != nil {
				return fmt.Errorf("write change: %w", err)
			}
		}
		last = now
		return nil
	}
}

// facts takes a status apart into what can change by itself, each under a key
// by which the next status' fact is found.
func facts(s *api.Status) map[string]string {
	out := make(map[string]string)
	out["0 leader"] = "no leader"
	if s.Leader != "" {
		out["0 leader"] = fmt.Sprintf("leader %s, term %d", s.Leader, s.Term)
	}
	for _, w := range s.Warnings {
		out["1 warning "+w] = "warning: " + w
	}
	for _, m := range s.Members {
		for by, verdict := range m.SeenBy {
			out[fmt.Sprintf("2 member %s %s", m.ID, by)] = fmt.Sprintf("%s sees the daemon of %s %s", by, m.ID, verdict)
		}
	}
	for _, sv := range s.Services {
		id := string(sv.ID)
		out["3 service "+id] = headline(sv)
		if sv.Move != nil {
			out["4 move "+id] = fmt.Sprintf("%s: %s", id, moveLine(sv.Move))
		}
		if sv.Pause != nil {
			out["1 pause "+id] = id + ": " + pauseLine(sv.Pause)
		}
		for _, v := range sv.Views {
			what := "it"
			if v.Service != "" {
				what = string(v.Service)
			}
			text := fmt.Sprintf("%s: %s sees %s %s at %s", id, v.Vantage, what, v.Verdict, v.Site)
			if v.Verdict != draas.Healthy && v.Class != "" {
				text += " (" + v.Class + ")"
			}
			out[fmt.Sprintf("5 view %s %s %s %s", id, v.Site, v.Service, v.Vantage)] = text
		}
	}
	for _, r := range s.Reported {
		for _, f := range r.Fences {
			out[fmt.Sprintf("6 fence %s %s", f.Service, r.Member)] = fmt.Sprintf("%s: fence at %s is %s, epoch %d", f.Service, r.Member, f.State, f.Epoch)
		}
		if r.Error != "" {
			out["7 error "+string(r.Member)] = fmt.Sprintf("%s: %s", r.Member, r.Error)
		}
	}
	return out
}

// changes lists what is new or different, and which warnings are over.
func changes(last, now map[string]string) []string {
	var out []string
	for _, key := range sortedKeys(now) {
		if last[key] != now[key] {
			out = append(out, now[key])
		}
	}
	for _, key := range sortedKeys(last) {
		_, still := now[key]
		if !still && (strings.HasPrefix(key, "1 ") || strings.HasPrefix(key, "7 ")) {
			out = append(out, "over: "+last[key])
		}
	}
	return out
}

func bindWhy(p *program, f *flag.FlagSet) action {
	a := p.asker(f)
	return func(ctx context.Context, args []string) error {
		return a.ask(ctx, askTimeout, func(ctx context.Context, c *api.Client) error {
			y, err := c.Why(ctx, draas.ServiceID(args[0]))
			if err != nil {
				return err
			}
			if *a.json {
				return writeJSON(a.stdout, y, "  ")
			}
			writeWhy(a.stdout, y)
			return nil
		})
	}
}

func bindHistory(p *program, f *flag.FlagSet) action {
	a := p.asker(f)
	limit := f.Int("limit", maxRecords, "the latest `N` records, 1 to 1000")
	return func(ctx context.Context, args []string) error {
		if *limit < 1 || *limit > 1000 {
			return usagef("--limit %d: want 1 to 1000", *limit)
		}
		var id draas.ServiceID
		if len(args) > 0 {
			id = draas.ServiceID(args[0])
		}
		return a.ask(ctx, askTimeout, func(ctx context.Context, c *api.Client) error {
			records, err := c.History(ctx, id, *limit)
			if err != nil {
				return err
			}
			return a.history(records)
		})
	}
}

func (a *asker) history(records []failover.Record) error {
	if !*a.json {
		writeHistory(a.stdout, records)
		return nil
	}
	for _, r := range records {
		if err := writeJSON(a.stdout, r, ""); err != nil {
			return err
		}
	}
	return nil
}
