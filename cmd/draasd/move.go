package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// mover is one move that an operator asks for.
type mover struct {
	*program
	client clientFlags

	kind     failover.MoveKind
	operator *string
	reason   *string
	noWait   *bool
	timeout  *time.Duration
	yes      *bool // failover only
}

// bindMove makes the command of one kind of move.
func bindMove(kind failover.MoveKind) func(*program, *flag.FlagSet) action {
	return func(p *program, f *flag.FlagSet) action {
		m := &mover{program: p, client: bindClient(f), kind: kind,
			operator: f.String("operator", "", "`NAME` for the history; default $SUDO_USER or $USER"),
			reason:   f.String("reason", "", "`TEXT` for the history"),
			noWait:   f.Bool("no-wait", false, "return when it is decided, do not follow it"),
			timeout:  f.Duration("timeout", 2*time.Minute, "how `LONG` to follow it"),
		}
		if kind == failover.MoveFailover {
			m.yes = f.Bool("yes", false, "do not ask")
		}
		return func(ctx context.Context, args []string) error {
			r := api.Request{Service: draas.ServiceID(args[0]), Request: failover.Request{Move: kind, Operator: m.who(), Reason: *m.reason}}
			if len(args) > 1 {
				r.Site = draas.SiteID(args[1])
			}
			return m.move(ctx, r)
		}
	}
}

func (m *mover) who() string {
	for _, name := range []string{*m.operator, m.getenv("SUDO_USER"), m.getenv("USER")} {
		if name != "" {
			return name
		}
	}
	return ""
}

// move looks, asks, prints the answer and follows the move.
func (m *mover) move(ctx context.Context, r api.Request) error {
	if *m.timeout <= 0 {
		return usagef("--timeout %v: want more than nothing", *m.timeout)
	}
	c, err := m.client.dial(m.server)
	if err != nil {
		return m.refused(err)
	}
	defer c.Close()
	sv, err := m.look(ctx, c, r.Service)
	if err != nil {
		return err
	}
	r.Expect = sv.Epoch
	if m.yes != nil && !*m.yes {
		if err := m.confirm(ctx, sv, r); err != nil {
			return err
		}
	}
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	start := m.now()
	a, err := c.Request(asked, r)
	if err != nil {
		return fmt.Errorf("%w\nIt may have been decided all the same: see draasd history %s before asking again", err, r.Service)
	}
	m.print(a)
	switch {
	case !a.Accepted:
		return exitCode(exitFailed)
	case *m.noWait:
		return nil
	}
	return m.follow(ctx, c, r, a.Record, start)
}

// look finds the service as the daemon sees it now.
func (m *mover) look(ctx context.Context, c *api.Client, id draas.ServiceID) (api.ServiceStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := c.Status(ctx, true)
	// A daemon that has only just started knows no service before a majority
	// has met: some moments later it does.
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for waited := time.Duration(0); err == nil && len(s.Services) == 0 && waited < startTime; waited += lookAgain {
		select {
		case <-ctx.Done():
			return api.ServiceStatus{}, ctx.Err()
		case <-tick.C:
		}
		s, err = c.Status(ctx, true)
	}
	if err != nil {
		return api.ServiceStatus{}, err
	}
	if sv, ok := serviceOf(s, id); ok {
		return sv, nil
	}
	return api.ServiceStatus{}, noService(s, id)
}

// startTime is how long a cluster may take to meet after its daemons have
// started, and lookAgain how often that is looked at.
const (
	startTime = 5 * time.Second
	lookAgain = 100 * time.Millisecond
)

func serviceOf(s *api.Status, id draas.ServiceID) (api.ServiceStatus, bool) {
	for _, sv := range s.Services {
		if sv.ID == id {
			return sv, true
		}
	}
	return api.ServiceStatus{}, false
}

func noService(s *api.Status, id draas.ServiceID) error {
	var names []string
	for _, sv := range s.Services {
		names = append(names, string(sv.ID))
	}
	if len(names) == 0 {
		return fmt.Errorf("%s knows no service yet: no majority of the members has met; start the others, or look at draasd status", s.Self)
	}
	return fmt.Errorf("there is no service %q%s (services: %s)", id, didYouMean(string(id), names), strings.Join(names, ", "))
}

// print tells the decision or the refusal with its reasons.
func (m *mover) print(a *api.Answer) {
	if a.Accepted {
		writeText(m.stdout, "", fmt.Sprintf("decided: %s, epoch %d", a.Record.Text, a.Record.Epoch))
	} else {
		writeText(m.stdout, "", a.Record.Text)
	}
	writeReasons(m.stdout, "  ", a.Record.Reasons)
}

// confirm shows what a forced move does and costs, and wants the service's
// name typed.
func (m *mover) confirm(ctx context.Context, sv api.ServiceStatus, r api.Request) error {
	if _, _, terminal := m.size(m.stdin); !terminal {
		return usagef("a forced failover without a terminal to confirm it needs --yes")
	}
	writeCost(m.stdout, sv, r.Site)
	fmt.Fprintf(m.stdout, "Type %s to go on: ", sv.ID)
	typed, err := m.readLine(ctx)
	if err != nil {
		return err
	}
	if typed != string(sv.ID) {
		fmt.Fprintln(m.stdout, "Nothing was done.")
		return exitCode(exitFailed)
	}
	return nil
}

// readLine reads what is typed, or ends with the context. A terminal cannot
// be told to stop reading: then the reader ends with the process.
func (m *mover) readLine(ctx context.Context) (string, error) {
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(m.stdin).ReadString('\n') // an end of input is no consent
		line <- strings.TrimSpace(text)
	}()
	select {
	case text := <-line:
		return text, nil
	case <-ctx.Done():
		fmt.Fprintln(m.stdout)
		return "", fmt.Errorf("confirm: %w", context.Cause(ctx))
	}
}
