package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/schemes/frontend"
)

// askLimit bounds one question to a member of Check.
const askLimit = 3 * time.Second

// Check tries what the frontend of this host would open, and asks the members
// as it would. ok is false when the certificate here is not a frontend's: then
// it is for the daemon to check.
func Check(ctx context.Context, path string) (report string, ok bool, err error) {
	c, err := connect.Load(path)
	if err != nil {
		return "", false, err
	}
	name, err := connect.CommonName(c.TLS.Cert)
	if err != nil {
		return "", false, err
	}
	self, known := c.Frontend(name)
	if !known || self.Member != "" {
		return "", false, nil
	}
	log := slog.New(slog.DiscardHandler)
	e := &Edge{name: self.ID, cfg: c, self: self, log: log, o: Options{Clock: fence.SystemClock{}.Now}}
	var b strings.Builder
	fmt.Fprintf(&b, "this is %s, a frontend of kind %s\n", self.ID, self.Kind)
	errs := []error{e.checkServes(ctx, c), checkVIPs(c, self.ID)}
	answered, said := e.askMembers(ctx, c)
	b.WriteString(said)
	if answered == 0 {
		errs = append(errs, errors.New("no member answers: a frontend that hears none leads nowhere"))
	}
	return b.String(), true, errors.Join(errs...)
}

// checkVIPs looks for the interfaces of the virtual IPs.
func checkVIPs(c *config.Config, frontend string) error {
	var errs []error
	for _, v := range c.VIPsOf(frontend) {
		for _, h := range v.At(frontend) {
			if _, err := net.InterfaceByName(h.Interface); err != nil {
				errs = append(errs, fmt.Errorf("vip.%s: %s: %w", v.ID, h, err))
			}
		}
	}
	return errors.Join(errs...)
}

// checkServes tries what serves users: certificates and ports of our own
// proxy, the way to one of others.
func (e *Edge) checkServes(ctx context.Context, c *config.Config) error {
	if e.self.Kind != config.FrontendEmbedded {
		_, err := driverOf(c, e.self)
		return err
	}
	table := frontend.New(frontend.Config{Clock: e.o.Clock, Log: e.log}, specsOf(c, e.name))
	errs := []error{try(e.plans(c, table))}
	if conn, err := net.DialTimeout("unix", e.self.Control, time.Second); err == nil {
		return errors.Join(append(errs, conn.Close())...) // its ports are in use because it runs
	}
	tried := make(map[string]bool)
	for _, s := range servicesOf(c, e.name) {
		for _, at := range listens(s) {
			if tried[at] {
				continue
			}
			tried[at] = true
			addr, _ := netip.ParseAddrPort(at)
			ln, err := listenConfig(c, e.name, addr.Addr()).Listen(ctx, "tcp", at)
			if err == nil {
				err = ln.Close()
			}
			// The unit gives the process what this user may lack.
			if err != nil && (!errors.Is(err, syscall.EACCES) || os.Geteuid() == 0) {
				errs = append(errs, fmt.Errorf("service.%s.frontend.listen: %w", s.ID, err))
			}
		}
	}
	return errors.Join(errs...)
}

// askMembers asks every member once, all at the same time.
func (e *Edge) askMembers(ctx context.Context, c *config.Config) (answered int, report string) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	lines := make([]string, len(c.Members))
	var all sync.WaitGroup
	var mu sync.Mutex
	for i, m := range c.Members {
		if m.API == "" {
			continue
		}
		all.Go(func() {
			err := e.askMember(ctx, c, m.ID)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				lines[i] = fmt.Sprintf("%s cannot be followed: %v\n", m.ID, err)
				return
			}
			answered++
			lines[i] = fmt.Sprintf("%s answers\n", m.ID)
		})
	}
	all.Wait()
	return answered, strings.Join(lines, "")
}

func (e *Edge) askMember(ctx context.Context, c *config.Config, m draas.MemberID) error {
	conf, err := connect.ClientTLS(c.TLS, m)
	if err != nil {
		return err
	}
	client := api.TLS(c.APIAddress(e.name, m), conf)
	defer client.Close()
	_, err = client.Follow(ctx, api.Follow{Frontend: e.name})
	return err
}
