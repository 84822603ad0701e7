package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/failover"
)

func bindMembers(p *program, f *flag.FlagSet) action {
	a := p.asker(f)
	return func(ctx context.Context, _ []string) error {
		return a.ask(ctx, askTimeout, func(ctx context.Context, c *api.Client) error {
			s, err := c.Status(ctx, false)
			if err != nil {
				return err
			}
			if *a.json {
				return writeJSON(a.stdout, membership{s.Cluster, s.ClusterID, s.Generation, s.Version, s.Leader, s.Members, s.Log, s.Reported}, "  ")
			}
			writeMembership(a.stdout, s)
			return nil
		})
	}
}

// membership is the part of a status that members --json prints.
type membership struct {
	Cluster    string             `json:"cluster"`
	ClusterID  string             `json:"cluster_id"`
	Generation uint64             `json:"generation"`
	Version    int                `json:"version"`
	Leader     draas.MemberID     `json:"leader"`
	Members    []api.MemberStatus `json:"members"`
	Log        []api.LogMember    `json:"log"`
	Reported   []api.Reported     `json:"reported"`
}

// writeMembership draws who takes part in the log, and the members of the file
// that do not.
func writeMembership(w io.Writer, s *api.Status) {
	text := fmt.Sprintf("cluster %s, id %s, decides by version %d", s.Cluster, s.ClusterID, s.Version)
	if s.Generation > 0 {
		text += fmt.Sprintf(", generation %d", s.Generation)
	}
	writeText(w, "", text)
	fmt.Fprintln(w)
	rows := [][]string{{markNone + "MEMBER", "ROLE", "RAFT ID", "VOTES", "HEARD", "MATCH", "VERSION", "CERT", "STATE"}}
	listed := make(map[draas.MemberID]bool)
	for _, m := range s.Log {
		listed[m.ID] = true
		rows = append(rows, logRow(s, m))
	}
	for _, m := range s.Members {
		if !listed[m.ID] {
			version, ends := reportedOf(s, m.ID)
			rows = append(rows, []string{markUnknown + string(m.ID), string(m.Role), "-", "no", "-", "-", version, ends, "not in the cluster"})
		}
	}
	writeTable(w, "", rows)
	for _, m := range s.Log {
		if m.Quarantine != "" {
			writeText(w, markDisagree, fmt.Sprintf("%s: %s. Stop it, and let it come back with draasd join --discard", m.ID, m.Quarantine))
		}
		if m.Refused != "" {
			writeText(w, markDisagree, fmt.Sprintf("%s: %s", m.ID, m.Refused))
		}
	}
	for _, m := range s.Members {
		if !listed[m.ID] {
			writeText(w, markUnknown, fmt.Sprintf("%s: the file in force names it and the log does not: run draasd join there", m.ID))
		}
	}
}

// raftID is an id as people compare it: the drawn ones are long.
func raftID(id uint64) string {
	text := fmt.Sprintf("%x", id)
	if len(text) > 8 {
		text = text[:8] + "…"
	}
	return text
}

func logRow(s *api.Status, m api.LogMember) []string {
	mark, role := markDisagree, "-"
	for _, known := range s.Members {
		if known.ID == m.ID {
			mark, role = markNone, string(known.Role)
		}
	}
	votes := "no"
	if m.Role == api.LogVoter {
		votes = "yes"
	}
	var state []string
	add := func(say bool, text string) {
		if say {
			state = append(state, text)
		}
	}
	add(role == "-", "not in the file")
	add(m.ID == s.Leader && m.Role == api.LogVoter, "leader")
	add(m.Role != api.LogVoter, string(m.Role))
	add(m.Snapshot, "is sent a snapshot")
	add(m.Leaving, "leaving")
	add(m.Refused != "", "not let in")
	add(m.Quarantine != "", "QUARANTINE")
	if m.Quarantine != "" || m.Refused != "" {
		mark = markDisagree
	}
	heard, match := "never", "-"
	switch {
	case m.ID == s.Self && m.HeardMS == 0:
		heard = "itself"
	case m.HeardMS >= 0:
		heard = ago(time.Duration(m.HeardMS) * time.Millisecond)
	}
	if m.Match > 0 {
		match = fmt.Sprint(m.Match)
	}
	version, ends := reportedOf(s, m.ID)
	return []string{mark + string(m.ID), role, raftID(m.RaftID), votes, heard, match, version, ends, orDash(strings.Join(state, "; "))}
}

func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms ago", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min ago", int(d.Minutes()))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// reportedOf is what a member says of itself: its version and how long its
// certificate lives.
func reportedOf(s *api.Status, m draas.MemberID) (version, ends string) {
	version, ends = "-", "-"
	for _, r := range s.Reported {
		if r.Member != m {
			continue
		}
		if r.Version > 0 {
			version = fmt.Sprint(r.Version)
		}
		if left := r.CertificateEnds.Sub(s.At); !r.CertificateEnds.IsZero() {
			ends = fmt.Sprintf("%d days", int(left.Hours()/24))
			if left <= 0 {
				ends = "ENDED"
			}
		}
	}
	return version, ends
}

func bindJoin(p *program, f *flag.FlagSet) action {
	path := configFlag(f)
	cluster := f.String("cluster", "", "`ID` of the cluster; default: the other members are asked")
	discard := f.Bool("discard", false, "give up the copy of the log that the data directory holds")
	return func(ctx context.Context, _ []string) error {
		if *discard && *cluster != "" {
			return usagef("--discard knows the cluster from the copy that it gives up: leave --cluster out")
		}
		j, err := p.server.join(ctx, daemon.JoinOptions{ConfigPath: configPath(*path), Cluster: *cluster, Discard: *discard})
		if err != nil {
			return p.refused(err)
		}
		writeText(p.stdout, "", fmt.Sprintf("%s is ready to join cluster %s as %s.", j.Data, j.Cluster, j.Member))
		next := "Start draasd here. It asks to be let in, first to learn the log and then to vote: draasd members shows it. It is let in when the file in force at the others names it, and no other copy of it lives."
		if j.Role == draas.RoleSite {
			next += " The guard of this site needs nothing."
		}
		writeText(p.stdout, "", next)
		return nil
	}
}

func bindIssue(p *program, f *flag.FlagSet) action {
	var o daemon.IssueOptions
	f.StringVar(&o.CA, "ca", "ca", "`DIR` with ca.crt and ca.key, as init made it")
	f.StringVar(&o.Out, "out", "", "`DIR` for member.key, member.crt and ca.crt; default NAME/tls")
	f.BoolVar(&o.Replace, "replace", false, "overwrite the files that are there")
	f.BoolVar(&o.Frontend, "frontend", false, "for a frontend: it may follow the decision and command nothing")
	days := f.Int("days", 730, "how many `DAYS` it is good")
	hosts := f.String("hosts", "", "further `NAMES` and addresses, with commas, for API clients that check them")
	return func(_ context.Context, args []string) error {
		if *days < 1 || *days > 3650 {
			return usagef("--days %d: want 1 to 3650", *days)
		}
		o.Member, o.For = draas.MemberID(args[0]), time.Duration(*days)*24*time.Hour
		if o.Out == "" {
			o.Out = filepath.Join(args[0], "tls")
		}
		if *hosts != "" {
			o.Hosts = strings.Split(*hosts, ",")
		}
		until, err := p.server.issue(o)
		if err != nil {
			return err
		}
		writeText(p.stdout, "", fmt.Sprintf("%s holds a certificate of %s, good until %s. Put member.key, then member.crt, into place there: a running daemon takes them within seconds.",
			o.Out, o.Member, until.UTC().Format(time.DateOnly)))
		return nil
	}
}

func bindLeave(p *program, f *flag.FlagSet) action {
	client := bindClient(f)
	return func(ctx context.Context, _ []string) error {
		c, err := client.dial(p.server)
		if err != nil {
			return p.refused(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		d, err := c.Leave(ctx)
		if err != nil {
			return err
		}
		writeText(p.stdout, "", d.Text)
		writeText(p.stdout, "", "When it is started again, it asks to be let in. To remove it for good, take it out of failover.toml too, and reload the others.")
		return nil
	}
}

func bindTakeover(p *program, f *flag.FlagSet) action {
	t := &takeover{program: p, client: bindClient(f), operator: bindOperator(f),
		off:    f.Bool("old-site-is-off", false, "you have made sure that the members that are lost do not serve, and will not"),
		loss:   f.Bool("allow-data-loss", false, "take services whose copy here is too far behind"),
		reason: f.String("reason", "", "`TEXT` for the history"),
		yes:    f.Bool("yes", false, "do not ask"),
		wait:   f.Duration("timeout", 2*time.Minute, "how `LONG` to wait for the daemon and to follow each move"),
	}
	return t.run
}

// takeover starts the cluster anew from one survivor, and takes what the lost
// members served.
type takeover struct {
	*program
	client         clientFlags
	off, loss, yes *bool
	operator       *string
	reason         *string
	wait           *time.Duration
}

func (t *takeover) run(ctx context.Context, _ []string) error {
	if !*t.off {
		return usagef("--old-site-is-off is missing: no program can tell a dead site from a cut line.\nLook there first, with your own eyes")
	}
	c, err := t.client.dial(t.server)
	if err != nil {
		return t.refused(err)
	}
	defer c.Close()
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	s, err := c.Status(ask, false)
	cancel()
	if err != nil {
		return err
	}
	writeEvidence(t.stdout, s)
	if s.Leader != "" {
		return fmt.Errorf("%s leads, so a majority lives and nothing has to be started anew: draasd failover moves a service", s.Leader)
	}
	if err := t.confirm(ctx, s); err != nil {
		return err
	}
	start := t.now()
	ask, cancel = context.WithTimeout(ctx, askTimeout)
	d, err := c.Force(ask, api.Force{OldSiteIsOff: true, Operator: t.who(*t.operator), Reason: *t.reason})
	cancel()
	if err != nil {
		return err
	}
	writeText(t.stdout, "", d.Text)
	anew, err := t.started(ctx, c, s.Generation)
	if err != nil {
		return err
	}
	writeText(t.stdout, "", fmt.Sprintf("generation %d: %s decides alone", anew.Generation, anew.Self))
	return t.takeAll(ctx, c, anew, start)
}

// confirm asks twice: whether it is known that the others are off, and for
// the cluster's name.
func (t *takeover) confirm(ctx context.Context, s *api.Status) error {
	if *t.yes {
		return nil
	}
	if _, _, terminal := t.size(t.stdin); !terminal {
		return usagef("a takeover without a terminal to confirm it needs --yes")
	}
	writeText(t.stdout, "", "Do you know, and not only suppose, that none of the lost members serves, and that none will when its power or its line comes back?")
	if err := t.typed(ctx, "off"); err != nil {
		return err
	}
	writeText(t.stdout, "", fmt.Sprintf("Cluster %s starts anew from %s alone.", s.Cluster, s.Self))
	return t.typed(ctx, s.Cluster)
}

// started waits until the daemon leads its new generation.
func (t *takeover) started(ctx context.Context, c *api.Client, was uint64) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, *t.wait)
	defer cancel()
	for {
		s, err := c.Status(ctx, true)
		if err == nil && s.Generation > was && s.Leader == s.Self {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no new generation after %v: see the daemon's log, and draasd status", *t.wait)
		case <-time.After(lookAgain):
		}
	}
}

// takeAll moves here what is active at members that are lost.
func (t *takeover) takeAll(ctx context.Context, c *api.Client, s *api.Status, start time.Time) error {
	failed := false
	for _, sv := range s.Services {
		if sv.Active == "" || sv.Active.Member() == s.Self {
			continue
		}
		r := api.Request{Service: sv.ID, Site: s.Self.Site(), Request: failover.Request{Move: failover.MoveFailover, Operator: t.who(*t.operator),
			Reason: *t.reason, Expect: sv.Epoch, Vouch: true, AllowDataLoss: *t.loss}}
		ok, err := t.take(ctx, c, r)
		if err != nil {
			return err
		}
		failed = failed || !ok
	}
	writeText(t.stdout, "", fmt.Sprintf("The members that are lost come back with draasd join --discard, and not before. %.1f s.", t.now().Sub(start).Seconds()))
	if failed {
		writeText(t.stdout, "", "Not everything was taken over: see above, and draasd failover SERVICE --vouch.")
		return exitCode(exitFailed)
	}
	writeText(t.stdout, "", "draasd status --watch shows how the users are moved.")
	return nil
}

// take asks for one service until this site has had the time to look at it.
func (t *takeover) take(ctx context.Context, c *api.Client, r api.Request) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, *t.wait)
	defer cancel()
	var a *api.Answer
	for {
		var err error
		if a, err = c.Request(ctx, r); err != nil {
			return false, err
		}
		if a.Accepted || !unready(a.Record) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * lookAgain):
			continue
		}
		break
	}
	t.printAnswer(a)
	return a.Accepted, nil
}

// unready reports whether nothing but this site's own state stands against
// the move, which a daemon that has just started does not know yet.
func unready(r failover.Record) bool {
	for _, reason := range r.Reasons {
		if !reason.OK && reason.Code != failover.ReasonTarget && reason.Code != failover.ReasonVantage {
			return false
		}
	}
	return true
}

// writeEvidence says what is known of the lost members, and what a takeover
// does.
func writeEvidence(w io.Writer, s *api.Status) {
	writeText(w, "", fmt.Sprintf("Takeover by %s, of cluster %s", s.Self, s.Cluster))
	leader := "leader: none, a majority of the members cannot be reached from here"
	if s.Leader != "" {
		leader = "leader: " + string(s.Leader)
	}
	writeText(w, "  ", leader)
	for _, m := range s.Log {
		if m.ID == s.Self {
			continue
		}
		heard := "was never heard since this daemon started"
		if m.HeardMS >= 0 {
			heard = "was heard " + ago(time.Duration(m.HeardMS)*time.Millisecond)
		}
		for _, r := range s.Reported {
			if r.Member == m.ID && r.Error == "" {
				heard += ", AND ITS API ANSWERS"
			}
		}
		writeText(w, "  ", fmt.Sprintf("%s: %s", m.ID, heard))
	}
	for _, sv := range s.Services {
		where := "active at " + string(sv.Active)
		switch {
		case sv.Active == "":
			where = "active nowhere"
		case sv.Active.Member() != s.Self:
			where += ": it is taken over here"
		}
		writeText(w, "  ", fmt.Sprintf("%s: %s, epoch %v", sv.ID, where, sv.Epoch))
		for _, l := range sv.Lags {
			if l.Site.Member() == s.Self {
				writeText(w, "      ", conditions(api.ServiceStatus{Lags: []api.Lag{l}})[0])
			}
		}
	}
	writeText(w, "  does: ", "makes this member's log the cluster's, with this member alone in it, under a new generation. What the lost members decided or wrote and this one has not seen is lost. They are shut out until they join anew.")
}
