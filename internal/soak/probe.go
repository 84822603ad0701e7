package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/measure"
)

// userTimeout is how long a user waits for an answer.
const userTimeout = 400 * time.Millisecond

// users ask from one place. A user is a goroutine whose thread is in that
// place's network.
type users struct {
	machine *lab.Machine
	every   time.Duration // between two questions of one user
	book    *book
}

// user asks one service over and over.
type user struct {
	users
	service string
	address string // fixed: straight at one site; empty: what DNS says
	keep    bool   // asks on one connection for as long as that lives
	names   resolver
	conn    *userConn
}

type userConn struct {
	net.Conn
	r *bufio.Reader
}

// run asks until ctx ends.
func (u *user) run(ctx context.Context) error {
	return u.machine.Inside(func() error { u.askOn(ctx); return nil })
}

func (u *user) askOn(ctx context.Context) {
	defer u.hangUp()
	tick := time.NewTicker(u.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a, err := u.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if u.address == "" {
			u.book.named(u.machine.Name, u.service, err == nil)
		}
		if err == nil {
			u.book.answered(a)
		} else if foreign := (*foreignAnswer)(nil); errors.As(err, &foreign) {
			u.book.violate("%s: %v", u.service, err)
		}
	}
}

func (u *user) hangUp() {
	if u.conn != nil {
		_ = u.conn.Close() // nothing is expected of it any more
		u.conn = nil
	}
}

// ask makes one request.
func (u *user) ask(ctx context.Context) (answer, error) {
	end := time.Now().Add(userTimeout)
	address := u.address
	if address == "" {
		ip, err := u.names.lookup(u.service, end)
		if err != nil {
			if errors.Is(err, errEmpty) {
				u.book.violate("%s: %v", u.service, err)
			}
			return answer{}, err
		}
		address = fmt.Sprintf("%s:%d", ip, portOf[u.service])
	}
	if u.conn == nil {
		var err error
		if u.conn, err = dialUser(ctx, address, end); err != nil {
			return answer{}, err
		}
	}
	a, err := u.exchange(address, end)
	if err != nil || !u.keep {
		u.hangUp()
	}
	return a, err
}

func dialUser(ctx context.Context, address string, end time.Time) (*userConn, error) {
	d := net.Dialer{Deadline: end}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &userConn{Conn: conn, r: bufio.NewReader(conn)}, nil
}

// foreignAnswer is an answer that the service cannot have given.
type foreignAnswer struct{ address, site, stamp string }

func (e *foreignAnswer) Error() string {
	return fmt.Sprintf("%s answers as site %q at %q", e.address, e.site, e.stamp)
}

func (u *user) exchange(address string, end time.Time) (answer, error) {
	if err := u.conn.SetDeadline(end); err != nil {
		return answer{}, err
	}
	if _, err := fmt.Fprintf(u.conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", nameOf(u.service)); err != nil {
		return answer{}, err
	}
	res, err := http.ReadResponse(u.conn.r, nil)
	if err != nil {
		return answer{}, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	done := time.Now().UnixNano()
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return answer{}, err
	}
	if res.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("status %s", res.Status)
	}
	site, stamp := res.Header.Get(measure.HeaderSite), res.Header.Get(measure.HeaderTime)
	at, err := strconv.ParseInt(stamp, 10, 64)
	number := slices.Index(sites, site)
	if err != nil || number < 0 || address != fmt.Sprintf("%s:%d", serviceAddress(u.service, site), portOf[u.service]) {
		return answer{}, &foreignAnswer{address, site, stamp}
	}
	epoch, _ := strconv.ParseUint(res.Header.Get(measure.HeaderEpoch), 10, 64) // it may not know yet
	return answer{Stamp: at, Done: done, Epoch: epoch, Site: uint8(number), Service: uint8(slices.Index(services, u.service))}, nil
}

// resolver asks the sites' name servers, and remembers for the answer's time
// to live.
type resolver struct {
	ip    string
	until time.Time
	first int // server that answered last
}

// errEmpty: an authority must never answer that a service has no address.
var errEmpty = errors.New("a name server answers without an address")

func (r *resolver) lookup(service string, end time.Time) (string, error) {
	if time.Now().Before(r.until) {
		return r.ip, nil
	}
	var errs []error
	for i := range sites {
		server := (r.first + i) % len(sites)
		share := time.Until(end) / time.Duration(len(sites)+1-i) // leaves time to ask the service
		if share <= 0 {
			break
		}
		ip, ttl, err := lookup(memberAddress(sites[server]), service, share)
		if err == nil {
			r.ip, r.until, r.first = ip, time.Now().Add(ttl), server
			return ip, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

func lookup(server, service string, timeout time.Duration) (string, time.Duration, error) {
	c := &dns.Client{Timeout: timeout, Dialer: &net.Dialer{Timeout: timeout}}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(nameOf(service), dns.TypeA), net.JoinHostPort(server, strconv.Itoa(dnsPort)))
	if err != nil {
		return "", 0, fmt.Errorf("ask %s: %w", server, err)
	}
	if m.Rcode != dns.RcodeSuccess {
		return "", 0, fmt.Errorf("%s answers %s", server, dns.RcodeToString[m.Rcode])
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String(), time.Duration(a.Hdr.Ttl) * time.Second, nil
		}
	}
	return "", 0, fmt.Errorf("%s: %w", server, errEmpty)
}

// perSite is how many users ask each site straight for each service: one on
// new connections, one on a connection that stays.
const perSite = 2

// crowd are the users at a place of some services: some straight at each site,
// one by name.
func crowd(base users, of []string) []*user {
	var all []*user
	for _, s := range of {
		for _, site := range sites {
			for n := range perSite {
				all = append(all, &user{users: base, service: s, keep: n > 0,
					address: fmt.Sprintf("%s:%d", serviceAddress(s, site), portOf[s])})
			}
		}
		all = append(all, &user{users: base, service: s})
	}
	return all
}

// start runs the users until ctx ends; wait returns what went wrong.
func start(ctx context.Context, all []*user) (wait func() error) {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, u := range all {
		wg.Go(func() { errs[i] = u.run(ctx) })
	}
	return func() error { wg.Wait(); return errors.Join(errs...) }
}
