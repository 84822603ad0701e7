package nat_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/frontendtest"
	"github.com/draasd/draas/schemes/frontend/nat"
)

// envNet is set in the network namespace that the tests run in: the machine's
// own tables are not touched. It is gone with the process.
const envNet = "DRAAS_NAT_NET"

func TestMain(m *testing.M) {
	if os.Getenv(envNet) == "" {
		if err := again(); err != nil {
			fmt.Fprintln(os.Stderr, "the kernel's translation is tested in a network namespace, as root (in a container will do), with util-linux, iproute2 and nftables:", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// again runs this program anew in a namespace of its own. It does not return
// if that succeeds.
func again() error {
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	argv := append([]string{"unshare", "--net", "--", "sh", "-ec", `ip link set lo up; exec "$@"`, "sh"}, os.Args...)
	return syscall.Exec(unshare, argv, append(os.Environ(), envNet+"=1"))
}

func run(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
}

func TestContract(t *testing.T) {
	for i, front := range []nat.Service{{Source: []netip.Addr{netip.MustParseAddr("127.77.1.1")}}, {Affinity: true}} {
		service := draas.ServiceID(fmt.Sprintf("shop-%d", i))
		t.Run(string(service), func(t *testing.T) {
			t.Parallel()
			at := netip.MustParseAddrPort(fmt.Sprintf("127.77.0.%d:8080", i+1))
			front.Listen = []netip.AddrPort{at}
			nft := func(lines ...string) func(t testing.TB) {
				return func(t testing.TB) {
					for _, line := range lines {
						run(t, "nft", fmt.Sprintf(line, "ip draas_nat_"+string(service)))
					}
				}
			}
			var active, other string
			tamper := map[string]func(testing.TB){
				"the table is deleted":   nft("delete table %s"),
				"the rules are flushed":  nft("flush table %s"),
				"the table is put aside": nft("add table %s { flags dormant; }"),
				"a chain is flushed":     nft("flush chain %s lead"),
			}
			if i == 0 {
				tamper = map[string]func(testing.TB){
					"the table is made anew, with another leader": func(t testing.TB) {
						table := "ip draas_nat_" + string(service)
						out, err := exec.Command("nft", "list", "table", strings.Fields(table)[0], strings.Fields(table)[1]).CombinedOutput()
						if err != nil {
							t.Fatalf("%v: %s", err, out)
						}
						path := filepath.Join(t.TempDir(), "rules")
						rules := "delete table " + table + "\n" + strings.ReplaceAll(string(out), active, other)
						if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
							t.Fatal(err)
						}
						run(t, "nft", "-f", path)
					},
					"a rule leads elsewhere": func(t testing.TB) {
						nft("insert rule %s lead ip saddr 0.0.0.0/0 tcp dport 8080 dnat to " + other)(t)
					},
				}
			}
			frontendtest.Run(t, func(t testing.TB, spec frontend.Spec) frontendtest.Proxy {
				active, other = spec.Sites["primary"][0].Address, spec.Sites["dr"][0].Address
				return driven(t, nat.Config{Services: map[draas.ServiceID]nat.Service{service: front}}, at)
			}, frontendtest.Options{Service: service, Tamper: tamper})
		})
	}
}

func driven(t testing.TB, cfg nat.Config, at netip.AddrPort) frontendtest.Driven {
	t.Helper()
	d, err := nat.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return frontendtest.Driven{At: at.String(), Driver: d}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort("127.77.0.8:8080")
	p := driven(t, nat.Config{Services: map[draas.ServiceID]nat.Service{"shop": {Listen: []netip.AddrPort{at}}}}, at)
	frontendtest.Complete(t, p.Driver, p.At, frontendtest.Sites(t, "shop"))
}

// go test -run xxx -bench Latency -benchtime 20x
func BenchmarkLatency(b *testing.B) {
	at := netip.MustParseAddrPort("127.77.0.9:8080")
	frontendtest.Latency(b, func(b testing.TB, _ frontend.Spec) frontendtest.Proxy {
		return driven(b, nat.Config{Services: map[draas.ServiceID]nat.Service{"shop": {Listen: []netip.AddrPort{at}}}}, at)
	}, frontendtest.Options{})
}
