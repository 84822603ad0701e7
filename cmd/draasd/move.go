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
	// Of failover only.
	yes, loss, vouch *bool
}

// bindMove makes the command of one kind of move.
func bindMove(kind failover.MoveKind) func(*program, *flag.FlagSet) action {
	return func(p *program, f *flag.FlagSet) action {
		m := &mover{program: p, client: bindClient(f), kind: kind,
			operator: bindOperator(f),
			reason:   f.String("reason", "", "`TEXT` for the history"),
			noWait:   f.Bool("no-wait", false, "return when it is decided, do not follow it"),
			timeout:  f.Duration("timeout", 2*time.Minute, "how `LONG` to follow it"),
		}
		if kind == failover.MoveFailover {
			m.yes = f.Bool("yes", false, "do not ask")
			m.loss = f.Bool("allow-data-loss", false, "take a site whose copy is too far behind, this once")
			m.vouch = f.Bool("vouch", false, "I have made sure that the old site does not serve, and will not")
		}
		return func(ctx context.Context, args []string) error {
			r := api.Request{Service: draas.ServiceID(args[0]), Request: failover.Request{Move: kind, Operator: p.who(*m.operator), Reason: *m.reason}}
			if kind == failover.MoveFailover {
				r.AllowDataLoss, r.Vouch = *m.loss, *m.vouch
			}
			if len(args) > 1 {
				r.Site = draas.SiteID(args[1])
			}
			return m.move(ctx, r)
		}
	}
}

func bindOperator(f *flag.FlagSet) *string {
	return f.String("operator", "", "`NAME` for the history; default $SUDO_USER or $USER")
}

// who is the operator: as named, or who is at the keyboard.
func (p *program) who(named string) string {
	for _, name := range []string{named, p.getenv("SUDO_USER"), p.getenv("USER")} {
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
	sv, err := look(ctx, c, r.Service)
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
	m.printAnswer(a)
	switch {
	case !a.Accepted:
		return exitCode(exitFailed)
	case *m.noWait:
		return nil
	}
	return m.follow(ctx, c, r, a.Record, start)
}

// look finds the service as the daemon sees it now.
func look(ctx context.Context, c *api.Client, id draas.ServiceID) (api.ServiceStatus, error) {
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

// printAnswer tells the decision or the refusal with its reasons.
func (p *program) printAnswer(a *api.Answer) {
	switch {
	case a.Record.Kind == failover.RecordDecision:
		writeText(p.stdout, "", fmt.Sprintf("decided: %s, epoch %v", a.Record.Text, a.Record.Epoch))
	default:
		writeText(p.stdout, "", a.Record.Text)
	}
	writeReasons(p.stdout, "  ", a.Record.Reasons)
}

// confirm shows what a forced move does and costs, and wants the service's
// name typed.
func (m *mover) confirm(ctx context.Context, sv api.ServiceStatus, r api.Request) error {
	if _, _, terminal := m.size(m.stdin); !terminal {
		return usagef("a forced failover without a terminal to confirm it needs --yes")
	}
	writeCost(m.stdout, sv, r)
	return m.typed(ctx, string(sv.ID))
}

// typed wants a word typed before anything is done.
func (p *program) typed(ctx context.Context, word string) error {
	fmt.Fprintf(p.stdout, "Type %s to go on: ", word)
	got, err := p.readLine(ctx)
	if err != nil {
		return err
	}
	if got != word {
		fmt.Fprintln(p.stdout, "Nothing was done.")
		return exitCode(exitFailed)
	}
	return nil
}

// readLine reads what is typed, or ends with the context. A terminal cannot
// be told to stop reading: then the reader ends with the process.
func (p *program) readLine(ctx context.Context) (string, error) {
	if p.typing == nil {
		p.typing = bufio.NewReader(p.stdin)
	}
	line := make(chan string, 1)
	go func() {
		text, _ := p.typing.ReadString('\n') // an end of input is no consent
		line <- strings.TrimSpace(text)
	}()
	select {
	case text := <-line:
		return text, nil
	case <-ctx.Done():
		fmt.Fprintln(p.stdout)
		return "", fmt.Errorf("confirm: %w", context.Cause(ctx))
	}
}
