package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	draas "github.com/draasd/draas"
)

// Power is what was observed of a host. Unknown is the zero value: a host that
// does not answer is not off.
type Power string

// The states of power.
const (
	PowerUnknown Power = "unknown"
	PowerOff     Power = "off"
	PowerOn      Power = "on"
)

// ErrNotOff says that a host could not be confirmed to be off.
var ErrNotOff = errors.New("not confirmed off")

// Device switches off a host of another site, at the hands of a member that is
// to take over from it. All hosts of a site have to be confirmed.
type Device interface {
	// Off has the host switched off, and returns nil only when it was seen to be
	// off and then, at several looks, to stay off. It may be called again: it
	// is idempotent. Its errors wrap ErrNotOff.
	Off(ctx context.Context, service draas.ServiceID, site draas.SiteID, epoch draas.Epoch) error
	// Status looks. With PowerUnknown comes an error that says why.
	Status(ctx context.Context) (Power, error)
}

// DeviceKind is how a device is reached.
type DeviceKind string

// The kinds of device.
const (
	DeviceExec DeviceKind = "exec"
	DeviceIPMI DeviceKind = "ipmi"
)

// DeviceSpec describes a device of any kind, as the service's file does.
type DeviceSpec struct {
	Kind DeviceKind

	// Off and Status (exec) are argument lists, run without a shell, with
	// DRAAS_SERVICE, DRAAS_SITE and DRAAS_EPOCH in their environment. Status
	// exits with 0 when the host is off, 1 when it is on, anything else is
	// unknown.
	Off, Status []string

	Address      string // ipmi: host:port
	User         string // ipmi
	PasswordFile string // ipmi: ipmitool reads it, nobody else
	Cipher       int    // ipmi: cipher suite; zero: 17
	Ipmitool     string // ipmi: zero: "ipmitool"

	Timeout time.Duration // until it must be off; zero: 30 s
	Stay    time.Duration // how long it must then be seen to stay off
	Log     *slog.Logger  // zero: none
}

const (
	// looksOff is how often a host is looked at while it has to stay off.
	looksOff = 5
	// lookTimeout bounds one look: a BMC answers within seconds or not at all.
	lookTimeout = 10 * time.Second
	// lookPause is the least pause between two looks.
	lookPause = 100 * time.Millisecond
)

// NewDevice checks the specification.
func NewDevice(s DeviceSpec) (Device, error) {
	if s.Timeout == 0 {
		s.Timeout = 30 * time.Second
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	d := &hostDevice{DeviceSpec: s}
	switch s.Kind {
	case DeviceExec:
		if len(s.Off) == 0 || s.Off[0] == "" || len(s.Status) == 0 || s.Status[0] == "" {
			return nil, errors.New("device: no off or no status command")
		}
		d.power = execPower{s.Off, s.Status}
	case DeviceIPMI:
		p, err := newIPMIPower(s)
		if err != nil {
			return nil, fmt.Errorf("device: %w", err)
		}
		d.power = p
	default:
		return nil, fmt.Errorf("device: kind %q is none of exec, ipmi", s.Kind)
	}
	return d, nil
}

// switched is one kind of device.
type switched interface {
	off(ctx context.Context, env []string, timeout time.Duration) error
	status(ctx context.Context, env []string) (Power, error)
}

type hostDevice struct {
	DeviceSpec
	power switched
}

func (d *hostDevice) Status(ctx context.Context) (Power, error) { return d.power.status(ctx, nil) }

// Off asks to switch off, and again whenever the host is not seen to be off and
// to stay so.
func (d *hostDevice) Off(ctx context.Context, service draas.ServiceID, site draas.SiteID, epoch draas.Epoch) error {
	env := []string{"DRAAS_SERVICE=" + string(service), "DRAAS_SITE=" + string(site), "DRAAS_EPOCH=" + strconv.FormatUint(uint64(epoch), 10)}
	log := d.Log.With("service", service, "site", site, "epoch", epoch)
	within, cancel := context.WithTimeout(ctx, d.Timeout+d.Stay)
	defer cancel()
	var why error // of the last attempt that did not end with the time
	for try := 1; ; try++ {
		err := d.power.off(within, env, d.Timeout)
		if err != nil {
			err = fmt.Errorf("switch off: %w", err) // it may be off all the same
		}
		looked := d.staysOff(within, env)
		if looked == nil {
			log.Info("device confirmed off", "try", try, "stayed", d.Stay)
			return nil
		}
		if within.Err() == nil || why == nil {
			why = errors.Join(err, looked)
		}
		if within.Err() != nil {
			return fmt.Errorf("switch off %s at %s: %w within %v: %w", service, site, ErrNotOff, d.Timeout+d.Stay, why)
		}
		log.Warn("device not confirmed off, trying on", "try", try, "err", why)
		pause(within, lookPause)
	}
}

// staysOff waits a while until the host is seen off, and then looks again and
// again. Nil says that it was off at every look.
func (d *hostDevice) staysOff(ctx context.Context, env []string) error {
	patience, cancel := context.WithTimeout(ctx, max(d.Timeout/4, lookPause))
	defer cancel()
	for {
		power, err := d.look(ctx, env)
		if power == PowerOff {
			break
		}
		if patience.Err() != nil {
			return err
		}
		pause(patience, lookPause)
	}
	for n := 2; n <= looksOff; n++ {
		pause(ctx, max(d.Stay/(looksOff-1), lookPause))
		if power, err := d.look(ctx, env); power != PowerOff {
			return fmt.Errorf("after %d looks that saw it off: %w", n-1, err)
		}
	}
	return nil
}

// look returns an error with everything but PowerOff.
func (d *hostDevice) look(ctx context.Context, env []string) (Power, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	power, err := d.power.status(ctx, env)
	if power == PowerOn {
		err = errors.New("it is on")
	}
	return power, err
}

// execPower is the operator's commands.
type execPower struct {
	offArgs, statusArgs []string
}

func (e execPower) off(ctx context.Context, env []string, timeout time.Duration) error {
	return command{argv: e.offArgs, env: env, timeout: timeout}.must(ctx)
}

func (e execPower) status(ctx context.Context, env []string) (Power, error) {
	o, err := command{argv: e.statusArgs, env: env, timeout: lookTimeout}.run(ctx)
	switch {
	case err != nil:
		return PowerUnknown, fmt.Errorf("status: %w", err)
	case o.code == 0:
		return PowerOff, nil
	case o.code == 1:
		return PowerOn, nil
	}
	return PowerUnknown, fmt.Errorf("status: exit code %d%s", o.code, o.tail())
}

// ipmiPower is a management controller, asked by ipmitool over RMCP+.
type ipmiPower struct {
	argv []string
}

func newIPMIPower(s DeviceSpec) (ipmiPower, error) {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return ipmiPower{}, fmt.Errorf("address %q: %w", s.Address, err)
	}
	switch {
	case s.User == "" || s.User[0] == '-':
		return ipmiPower{}, fmt.Errorf("user %q", s.User)
	case s.PasswordFile == "":
		return ipmiPower{}, errors.New("no password file")
	}
	if s.Cipher == 0 {
		s.Cipher = 17
	}
	if s.Ipmitool == "" {
		s.Ipmitool = "ipmitool"
	}
	// One second a try and three tries: less than lookTimeout with what it
	// takes to open a session.
	return ipmiPower{argv: []string{s.Ipmitool, "-I", "lanplus", "-H", host, "-p", port, "-U", s.User, "-f", s.PasswordFile,
		"-C", strconv.Itoa(s.Cipher), "-N", "1", "-R", "3", "chassis", "power"}}, nil
}

func (p ipmiPower) ask(ctx context.Context, env []string, timeout time.Duration, what string) (outcome, error) {
	argv := append(append([]string(nil), p.argv...), what)
	return command{argv: argv, env: append([]string{"LC_ALL=C"}, env...), timeout: timeout}.run(ctx)
}

func (p ipmiPower) off(ctx context.Context, env []string, timeout time.Duration) error {
	o, err := p.ask(ctx, env, min(timeout, lookTimeout), "off")
	if err == nil && o.code != 0 {
		err = fmt.Errorf("ipmitool: exit code %d%s", o.code, o.tail())
	}
	return err
}

func (p ipmiPower) status(ctx context.Context, env []string) (Power, error) {
	o, err := p.ask(ctx, env, lookTimeout, "status")
	if err != nil {
		return PowerUnknown, fmt.Errorf("status: %w", err)
	}
	if o.code != 0 {
		return PowerUnknown, fmt.Errorf("status: ipmitool: exit code %d%s", o.code, o.tail())
	}
	return readPower(o.output)
}

// readPower reads what `ipmitool chassis power status` prints. There has to be
// one line of the two, and none of the other.
func readPower(said string) (Power, error) {
	power := PowerUnknown
	for line := range strings.Lines(said) {
		var seen Power
		switch strings.TrimSpace(line) {
		case "Chassis Power is off":
			seen = PowerOff
		case "Chassis Power is on":
			seen = PowerOn
		default:
			continue
		}
		if power != PowerUnknown && power != seen {
			return PowerUnknown, errors.New("status: ipmitool says both on and off")
		}
		power = seen
	}
	if power == PowerUnknown {
		return PowerUnknown, fmt.Errorf("status: ipmitool said %q", bounded(said, 200))
	}
	return power, nil
}
