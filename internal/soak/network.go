package soak

import (
	"fmt"
	"strings"

	"github.com/draasd/draas/internal/lab"
)

// gateway is the router's address on every link.
const gateway = "10.90.0.1"

// newRouter makes the machine through which everything goes.
func newRouter() (*lab.Machine, error) {
	r, err := lab.New("router")
	if err != nil {
		return nil, err
	}
	if _, err := r.Run("/", "sysctl", "-qw", "net.ipv4.ip_forward=1"); err != nil {
		_ = r.Close() // the first error says more
		return nil, err
	}
	return r, nil
}

// plug joins a machine to the router by a link of its own.
func plug(m, router *lab.Machine, addresses []string) error {
	script := []string{
		fmt.Sprintf("ip link add name eth0 type veth peer name %s netns %d", m.Name, router.PID()),
		"ip link set eth0 up",
	}
	for _, a := range addresses {
		script = append(script, "ip addr add "+a+"/32 dev eth0")
	}
	script = append(script, fmt.Sprintf("ip route add default via %s dev eth0 onlink src %s", gateway, addresses[0]))
	if _, err := m.Run("/", "sh", "-euc", strings.Join(script, "\n")); err != nil {
		return fmt.Errorf("plug in %s: %w", m.Name, err)
	}
	if _, err := router.Run("/", "ip", "addr", "add", gateway+"/32", "dev", m.Name); err != nil {
		return fmt.Errorf("plug in %s: %w", m.Name, err)
	}
	return linkUp(router, m.Name, addresses)
}

// linkUp sets the router's end of a link up; its routes went with the link.
func linkUp(router *lab.Machine, name string, addresses []string) error {
	script := []string{"ip link set " + name + " up"}
	for _, a := range addresses {
		script = append(script, fmt.Sprintf("ip route replace %s/32 dev %s", a, name))
	}
	if _, err := router.Run("/", "sh", "-euc", strings.Join(script, "\n")); err != nil {
		return fmt.Errorf("set up link of %s: %w", name, err)
	}
	return nil
}

// loadRules replaces the router's ruleset.
func loadRules(router *lab.Machine, ruleset string) error {
	cmd := router.Command("/", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load rules: %w: %s", err, out)
	}
	return nil
}
