package matrix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/draasd/draas/internal/lab"
)

// network is the machines and what joins them: a bridge in the router for each
// place, and one for what stands behind each site's member.
type network struct {
	router   *lab.Machine
	machines map[string]*lab.Machine
	portsOf  map[string][]string // the router's ends of a machine's links

	mu    sync.Mutex
	cut   []cut
	close []func() error // last in, first out
}

// cut is what does not pass between two places; an empty one is every place
// but the other end.
type cut struct {
	From, To string
	Port     uint16 // to which; 0: all
	Refuse   bool   // connections to the port are refused, and not only lost
}

func bridgeOf(place string) string { return "br-" + place }
func innerBridge(site string) string {
	return "in-" + site
}

func newNetwork() (*network, error) {
	n := &network{machines: make(map[string]*lab.Machine), portsOf: make(map[string][]string)}
	var err error
	if n.router, err = lab.New("router"); err != nil {
		return nil, err
	}
	n.close = append(n.close, n.router.Close)
	if _, err := n.router.Run("/", "sh", "-euc", strings.Join(routerScript(), "\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("set up router: %w", err), n.end())
	}
	return n, nil
}

// routerScript makes the bridges. What goes from one place to another is
// routed to the wide area first, and by the main table when it comes back.
func routerScript() []string {
	script := []string{"sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 " +
		"net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0"}
	for _, p := range places {
		script = append(script,
			"ip link add "+bridgeOf(p)+" type bridge",
			fmt.Sprintf("ip addr add %s/24 dev %s", address(p, hostRouter), bridgeOf(p)),
			"ip link set "+bridgeOf(p)+" up",
			"ip rule add pref 200 iif "+bridgeOf(p)+" lookup 100")
		for _, from := range prefixes(p) {
			for _, to := range prefixes(p) {
				script = append(script, fmt.Sprintf("ip rule add pref 100 from %s to %s lookup main", from, to))
			}
		}
	}
	for _, s := range sites {
		script = append(script,
			"ip link add "+innerBridge(s)+" type bridge",
			"ip link set "+innerBridge(s)+" up",
			fmt.Sprintf("ip route add %s via %s", inner(s), address(s, hostMember)))
	}
	return script
}

// joinWAN leads what goes between places through the device, which is there.
func (n *network) joinWAN() error {
	_, err := n.router.Run("/", "sh", "-euc", "ip link set "+wanDevice+" up\nip route add default dev "+wanDevice+" table 100")
	if err != nil {
		return fmt.Errorf("join wide area: %w", err)
	}
	return nil
}

// add makes a machine at a place. Its first address is what it speaks from.
func (n *network) add(name, place string, hosts ...int) (*lab.Machine, error) {
	var addresses []string
	for _, h := range hosts {
		addresses = append(addresses, address(place, h)+"/24")
	}
	m, err := n.machine(name)
	if err != nil {
		return nil, err
	}
	return m, n.plug(m, "eth0", bridgeOf(place), addresses, "ip route add default via "+address(place, hostRouter))
}

// addBehind makes the machine of a site's service, behind that of its member.
func (n *network) addBehind(site string) (*lab.Machine, error) {
	member := n.machines[site]
	err := n.plug(member, "eth1", innerBridge(site), []string{strings.TrimSuffix(inner(site), "0/24") + "1/24"}, "sysctl -qw net.ipv4.ip_forward=1")
	if err != nil {
		return nil, err
	}
	m, err := n.machine(serviceHost(site))
	if err != nil {
		return nil, err
	}
	return m, n.plug(m, "eth0", innerBridge(site), []string{serviceAddress(site) + "/24"}, "ip route add default via "+strings.TrimSuffix(inner(site), "0/24")+"1")
}

func (n *network) machine(name string) (*lab.Machine, error) {
	m, err := lab.New(name)
	if err != nil {
		return nil, err
	}
	n.machines[name] = m
	n.close = append(n.close, m.Close)
	return m, nil
}

// plug joins a machine to a bridge of the router.
func (n *network) plug(m *lab.Machine, device, bridge string, addresses []string, more ...string) error {
	port := m.Name
	if device != "eth0" {
		port += "-in"
	}
	script := []string{fmt.Sprintf("ip link add name %s type veth peer name %s netns %d", device, port, n.router.PID())}
	for _, a := range addresses {
		script = append(script, fmt.Sprintf("ip addr add %s dev %s", a, device))
	}
	script = append(script, "ip link set "+device+" up")
	if _, err := m.Run("/", "sh", "-euc", strings.Join(append(script, more...), "\n")); err != nil {
		return fmt.Errorf("plug in %s: %w", m.Name, err)
	}
	if _, err := n.router.Run("/", "ip", "link", "set", port, "master", bridge, "up"); err != nil {
		return fmt.Errorf("plug in %s: %w", m.Name, err)
	}
	n.portsOf[m.Name] = append(n.portsOf[m.Name], port)
	return nil
}

// The states of a bridge's port (linux/if_bridge.h): a disabled one drops
// everything both ways, and the machine's link stays up, as behind a switch.
const (
	portDisabled   = 0
	portForwarding = 3
)

// reach lets machines be reached, or has everything from and to them dropped:
// all at once.
func (n *network) reach(yes bool, machines ...string) error {
	state := portDisabled
	if yes {
		state = portForwarding
	}
	var batch strings.Builder
	for _, m := range machines {
		for _, port := range n.portsOf[m] {
			fmt.Fprintf(&batch, "link set dev %s state %d\n", port, state)
		}
	}
	return n.ports(batch.String())
}

func (n *network) ports(batch string) error {
	cmd := n.router.Command("/", "bridge", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set state of ports: %w: %s", err, out)
	}
	return nil
}

// isolate has the switch carry nothing from one of the machines to another of
// them; all else it carries.
func (n *network) isolate(yes bool, machines ...string) error {
	var batch strings.Builder
	for _, m := range machines {
		for _, port := range n.portsOf[m] {
			fmt.Fprintf(&batch, "link set dev %s isolated %s\n", port, map[bool]string{true: "on", false: "off"}[yes])
		}
	}
	return n.ports(batch.String())
}

// sever puts cuts in force, in one transaction; join takes them back.
func (n *network) sever(these ...cut) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = append(n.cut, these...)
	return n.load()
}

func (n *network) join(these ...cut) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range these {
		if i := slices.Index(n.cut, c); i >= 0 {
			n.cut = slices.Delete(n.cut, i, i+1)
		}
	}
	return n.load()
}

func (n *network) load() error {
	cmd := n.router.Command("/", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset(n.cut))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load cuts: %w: %s", err, out)
	}
	return nil
}

// ruleset is the router's.
func ruleset(cuts []cut) string {
	var b strings.Builder
	b.WriteString("table ip faults {}\ndelete table ip faults\ntable ip faults {\n chain forward {\n  type filter hook forward priority filter; policy accept;\n")
	set := func(place string) string { return "{ " + strings.Join(prefixes(place), ", ") + " }" }
	for _, c := range cuts {
		var ends, port string
		switch {
		case c.From == "":
			ends = fmt.Sprintf("ip saddr != %s ip daddr %s", set(c.To), set(c.To))
		case c.To == "":
			ends = fmt.Sprintf("ip saddr %s ip daddr != %s", set(c.From), set(c.From))
		default:
			ends = fmt.Sprintf("ip saddr %s ip daddr %s", set(c.From), set(c.To))
		}
		verdict := "drop"
		switch {
		case c.Refuse:
			port, verdict = fmt.Sprintf("tcp dport %d ", c.Port), "reject with tcp reset"
		case c.Port != 0:
			port = fmt.Sprintf("meta l4proto { tcp, udp } th dport %d ", c.Port)
		}
		fmt.Fprintf(&b, "  %s %s%s\n", ends, port, verdict)
	}
	b.WriteString(" }\n}\n")
	return b.String()
}

// end takes the machines down. What runs in them has ended.
func (n *network) end() error {
	var errs []error
	for _, c := range slices.Backward(n.close) {
		errs = append(errs, c())
	}
	n.close = nil
	return errors.Join(errs...)
}
