package matrix

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
)

// asking is who asks from one machine.
type asking struct {
	machine string
	askers  []asker
}

// rate is the requests a second of each asker, nearPatience how long one waits
// that asks a site straight: its failures are no downtime.
const (
	rate         = 50
	nearPatience = 400 * time.Millisecond
)

// whoAsks fills in who asks: users outside by name, and beside each site
// somebody who asks that site straight, whom no cut between places comes
// between.
func (w *world) whoAsks() {
	url := fmt.Sprintf("http://%s:%d/", strings.TrimSuffix(serviceName, "."), webPort)
	var all []asker
	for _, k := range kinds() {
		a := asker{Name: k, URL: url, Kind: k, Resolvers: w.authorities(), Rate: rate, Patience: patience, Writes: k == kindFresh}
		if k == kindResolver {
			a.Resolvers = []string{fmt.Sprintf("%s:%d", address(outside, hostResolver), dnsPort)}
		}
		all = append(all, a)
	}
	w.asking = append(w.asking, asking{users, all})
	w.nearAsk()
}

func (w *world) nearAsk() {
	for _, s := range sites {
		a := asker{Name: nearHost(s), URL: fmt.Sprintf("http://%s:%d/", serviceAddress(s), webPort), Kind: kindFresh, Direct: true, Rate: rate, Patience: nearPatience}
		w.asking = append(w.asking, asking{nearHost(s), []asker{a}})
	}
}

// userKinds are the askers whose downtime counts.
func (w *world) userKinds() []string {
	var all []string
	for _, a := range w.asking {
		for _, k := range a.askers {
			if !k.Direct {
				all = append(all, k.Name)
			}
		}
	}
	return all
}

// crowd is everybody who asks during a run.
type crowd struct {
	began time.Time // of what counts
	crews []*crew

	mu      sync.Mutex
	answers map[string][]answer // by asker, as they came
	direct  map[string]bool
	writes  *measure.Writes
	claims  []claim // to a pair's address
}

// crew is the process of those who ask from one machine.
type crew struct {
	cmd  *exec.Cmd
	in   io.Closer
	said *strings.Builder
	read sync.WaitGroup
	err  error // of reading
}

// gather starts everybody.
func (w *world) gather() (*crowd, error) {
	c := &crowd{began: time.Now(), answers: make(map[string][]answer), direct: make(map[string]bool)}
	for _, a := range w.asking {
		for _, k := range a.askers {
			c.direct[k.Name] = k.Direct
		}
		text, err := json.Marshal(a.askers)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write askers: %w", err), c.kill())
		}
		if err := c.start(w.net.machines[a.machine], c.hear, w.o.Self, roleClients, string(text)); err != nil {
			return nil, errors.Join(fmt.Errorf("start clients at %s: %w", a.machine, err), c.kill())
		}
	}
	if w.Pair {
		err := c.start(w.net.machines[nearHost(edge)], c.hearClaim, w.o.Self, roleClaims, "-ours", address(edge, hostNear), "-theirs", address(edge, hostVIP))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start neighbour: %w", err), c.kill())
		}
	}
	return c, nil
}

// start starts a crew, whose every line is taken by hear.
func (c *crowd) start(m *lab.Machine, hear func(line []byte) error, argv ...string) (err error) {
	k := &crew{cmd: m.Command("/", argv...), said: &strings.Builder{}}
	k.cmd.Stderr = k.said
	if k.in, err = k.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := k.cmd.Start(); err != nil {
		return err
	}
	k.read.Go(func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for k.err == nil && lines.Scan() {
			k.err = hear(lines.Bytes())
		}
		k.err = errors.Join(k.err, lines.Err())
	})
	c.crews = append(c.crews, k)
	return nil
}

// hear takes a line of those who ask.
func (c *crowd) hear(line []byte) error {
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.Writes != nil {
		c.writes = a.Writes
	} else {
		c.answers[a.Asker] = append(c.answers[a.Asker], a)
	}
	return nil
}

// hearClaim takes a line of who asks for the pair's address.
func (c *crowd) hearClaim(line []byte) error {
	var x claim
	if err := json.Unmarshal(line, &x); err != nil {
		return fmt.Errorf("read claim: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = append(c.claims, x)
	return nil
}

// leaveLimit is how long after its end a crew may take: for what is under way,
// and to read the rows back.
const leaveLimit = patience + 15*time.Second

// stop has everybody ask no more.
func (c *crowd) stop() {
	for _, k := range c.crews {
		_ = k.in.Close() // a process that has ended says so to leave
	}
}

// leave waits, after stop, until what was under way is known.
func (c *crowd) leave() error {
	late := time.AfterFunc(leaveLimit, func() { c.signal(syscall.SIGKILL) })
	defer late.Stop()
	return c.wait()
}

func (c *crowd) wait() error {
	var errs []error
	for _, k := range c.crews {
		k.read.Wait()
		err := k.cmd.Wait()
		if err != nil {
			err = fmt.Errorf("clients: %w: %s", err, k.said)
		}
		errs = append(errs, k.err, err)
	}
	c.crews = nil
	return errors.Join(errs...)
}

func (c *crowd) signal(s syscall.Signal) {
	for _, k := range c.crews {
		_ = syscall.Kill(-k.cmd.Process.Pid, s) // it may have ended
	}
}

func (c *crowd) kill() error {
	c.stop()
	c.signal(syscall.SIGKILL)
	_ = c.wait() // it was killed
	return nil
}

// begin forgets what was asked before the last stretch of that length: the
// users came while resolvers had still the answers of the run before.
func (c *crowd) begin(long time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = time.Now().Add(-long)
}

// since counts an asker's good and failed requests that were due at or after
// an instant, and names the sites of the good ones.
func (c *crowd) since(asker string, at time.Time) (good, failed int, from []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range slices.Backward(c.answers[asker]) {
		if a.Done < at.UnixNano()-int64(time.Minute) {
			break
		}
		if a.At < at.UnixNano() {
			continue
		}
		if a.Class != rto.Good {
			failed++
			continue
		}
		good++
		if !slices.Contains(from, a.Site) {
			from = append(from, a.Site)
		}
	}
	return good, failed, from
}

// steady says who has not been served without a failure for so long, by the
// site; an empty site is any.
func (c *crowd) steady(kinds []string, site string, long time.Duration) error {
	at := time.Now().Add(-long)
	for _, k := range kinds {
		good, failed, from := c.since(k, at)
		switch {
		case failed > 0:
			return fmt.Errorf("%s: %d failed lately", k, failed)
		case float64(good) < 0.7*rate*(long-lateAnswer).Seconds():
			return fmt.Errorf("%s: %d good answers lately", k, good)
		case site != "" && (len(from) != 1 || from[0] != site):
			return fmt.Errorf("%s is answered by %v", k, from)
		}
	}
	return nil
}

// lateAnswer is how long answers may take on a machine at work.
const lateAnswer = 50 * time.Millisecond
