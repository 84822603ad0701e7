package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/schemes/dns/authority"
)

// Check reads a file as a daemon would, and says what it implies. With here it
// also opens the files and tries the ports that this member would use; what
// is wrong is returned all at once.
func Check(path string, here bool) (report string, err error) {
	c, err := Load(path)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: cluster %s, profile %s, %d members, %d services, digest %.12s\n",
		path, c.Cluster, c.Profile.Name, len(c.Members), len(c.Services), c.Digest())
	for _, u := range c.Units() {
		b.WriteString(summary(c, u))
	}
	for _, note := range c.Notes() {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	if !here {
		return b.String(), nil
	}
	self, err := Identity(c)
	if err != nil {
		return b.String(), err
	}
	fmt.Fprintf(&b, "this is %s, a %s\n", self.ID, self.Role)
	life, err := checkCertificates(c, self)
	b.WriteString(life)
	b.WriteString(delegations(c, self))
	errs := append([]error{err}, checkHere(c, self)...)
	for i, err := range errs {
		// The unit gives the daemon what this user may lack.
		if errors.Is(err, syscall.EACCES) && strings.Contains(err.Error(), "bind") {
			fmt.Fprintf(&b, "not tried: %v: draasd.service has CAP_NET_BIND_SERVICE for it\n", err)
			errs[i] = nil
		}
	}
	return b.String(), errors.Join(errs...)
}

// checkHere tries what a daemon and its guard would open on this machine.
func checkHere(c *config.Config, self config.Member) []error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	add(checkData(c, self))
	add(checkKeys(c, self))
	if self.Role == draas.RoleSite {
		zones, err := zonesOf(c)
		if err == nil {
			err = authority.CheckZones(zones)
		}
		add(err)
	}
	if alive(c.Control) {
		// Its ports are in use because it runs.
		return append(errs, checkFences(c, self)...)
	}
	add(tryTCP("peer", self.ListenPeer))
	add(tryTCP("api", self.API))
	add(tryTCP("metrics", self.Metrics))
	if self.Role == draas.RoleSite {
		add(tryTCP("dns", self.DNS))
		add(tryUDP("dns", self.DNS))
	}
	return append(errs, checkFences(c, self)...)
}

// checkKeys reads the keys and credentials with which a site changes other name
// servers, as the daemon would.
func checkKeys(c *config.Config, self config.Member) error {
	if self.Role != draas.RoleSite {
		return nil
	}
	var errs []error
	now := func() draas.Reading { return draas.Reading{} }
	for _, id := range slices.Sorted(maps.Keys(c.DNS)) {
		z, names := c.DNS[id], namesIn(c, id)
		if z.Provider == config.ProviderEmbedded || len(names) == 0 {
			continue
		}
		if _, err := provider(&wiring{cfg: c, self: self}, z, names, means{acts: newActing(), now: now}); err != nil {
			errs = append(errs, fmt.Errorf("dns.%s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// delegations tells what the zone above a signed zone needs to have. Keys that
// cannot be read are complained about with the zones.
func delegations(c *config.Config, self config.Member) string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(c.DNS)) {
		z := c.DNS[id]
		if z.SigningKeys == "" || self.Role != draas.RoleSite {
			continue
		}
		keys, err := authority.ReadSigningKeys(z.SigningKeys, z.Name)
		if err != nil {
			continue
		}
		for i := range keys {
			if keys[i].Entry() {
				fmt.Fprintf(&b, "dns.%s: the zone above needs %s\n", id, keys[i].DS())
			}
		}
	}
	return b.String()
}

// checkCertificates looks at this member's certificate and says how long it
// lives.
func checkCertificates(c *config.Config, self config.Member) (life string, err error) {
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return "", fmt.Errorf("tls.cert and tls.key: %w", err)
	}
	if info, err := os.Stat(c.TLS.Key); err == nil && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("tls.key: %s can be read by others (mode %04o): chmod 600", c.TLS.Key, info.Mode().Perm())
	}
	roots, err := connect.Roots(c.TLS.CA)
	if err != nil {
		return "", err
	}
	leaf := pair.Leaf
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return "", fmt.Errorf("tls.cert: %s does not stand under tls.ca: %w", c.TLS.Cert, err)
	}
	left := time.Until(leaf.NotAfter)
	life = fmt.Sprintf("its certificate lives %d days more, until %s\n", int(left.Hours()/24), leaf.NotAfter.Format("2006-01-02 15:04 MST"))
	if left < c.TLS.Warn {
		return life, fmt.Errorf("tls.cert: %s of %s ends in %d days, and tls.warn is %d: renew it", c.TLS.Cert, self.ID, int(left.Hours()/24), int(c.TLS.Warn.Hours()/24))
	}
	return life, nil
}

func checkData(c *config.Config, self config.Member) error {
	disk, err := quorum.OpenOSDisk(c.Data)
	if errors.Is(err, quorum.ErrLocked) {
		return nil // the daemon runs
	}
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	meta, err := quorum.ReadMeta(disk)
	if err == nil && meta.Self != self.ID {
		err = fmt.Errorf("it belongs to %s, and the certificate is %s's", meta.Self, self.ID)
	}
	if err = errors.Join(err, disk.Close()); err != nil {
		return fmt.Errorf("data %s: %w", c.Data, err)
	}
	return nil
}

func alive(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

func tryTCP(key, addr string) error {
	if addr == "" {
		return nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%s: cannot listen: %w", key, err)
	}
	return ln.Close()
}

func tryUDP(key, addr string) error {
	if addr == "" {
		return nil
	}
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return fmt.Errorf("%s: cannot listen: %w", key, err)
	}
	return conn.Close()
}

// checkFences looks for the programs, interfaces and devices that fences need.
func checkFences(c *config.Config, self config.Member) []error {
	if self.Role != draas.RoleSite {
		return nil
	}
	var errs []error
	if w := c.Watchdog.Device; w != "" {
		if _, err := os.Stat(w); err != nil {
			errs = append(errs, fmt.Errorf("watchdog.device: %w", err))
		}
	}
	for _, s := range c.Services {
		var programs []string
		for _, name := range s.Fence.XDP {
			if _, err := net.InterfaceByName(name); err != nil {
				errs = append(errs, fmt.Errorf("service.%s.fence.xdp: %s: %w", s.ID, name, err))
			}
		}
		for i := range s.Fence.Devices {
			d := &s.Fence.Devices[i]
			switch {
			case d.Site == self.ID.Site(): // the others use it
			case d.Kind == config.DeviceIPMI:
				programs = append(programs, "ipmitool")
			default:
				programs = append(programs, d.Off[0], d.Status[0])
			}
		}
		switch s.Fence.Kind {
		case draas.FenceExec:
			for _, argv := range [][]string{s.Fence.Close, s.Fence.Open, s.Fence.Check} {
				if len(argv) > 0 {
					programs = append(programs, argv[0])
				}
			}
		case draas.FenceSystemd:
			programs = append(programs, "systemctl")
		}
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				errs = append(errs, fmt.Errorf("service.%s.fence: %w", s.ID, err))
			}
		}
	}
	return errs
}

// summary says what the file implies for a service, or for a group.
func summary(c *config.Config, u config.Unit) string {
	var b strings.Builder
	automatic := "moves by itself"
	if !u.Automatic {
		automatic = "moves only when somebody asks"
	}
	var names, schemes, fences []string
	for _, s := range u.Parts {
		names, schemes, fences = append(names, string(s.ID)), append(schemes, s.Scheme), append(fences, string(s.Fence.Kind))
	}
	group := ""
	if u.Group {
		group = "a group of " + strings.Join(names, ", ") + ": "
	}
	fmt.Fprintf(&b, "%s: %sscheme %s, home %s, fence %s, %s; a permit holds %v, a successor waits %v\n",
		u.ID, group, distinct(schemes), u.Home, distinct(fences), automatic, u.Timing.Lease.Hold(), u.Timing.Lease.Wait())
	for _, r := range c.RTO(u.ID) {
		fmt.Fprintf(&b, "  worst case, %s: %s\n", r.Disaster, r)
	}
	return b.String()
}

// distinct lists words without repetition.
func distinct(words []string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}
