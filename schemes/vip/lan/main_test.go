package lan

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// envNet is set in the network namespace that the tests run in: the machine's
// own interfaces and tables are not touched. It is gone with the process.
const envNet = "DRAAS_LAN_NET"

// envHost makes this program a host that is told what to do: see remote.
const envHost = "DRAAS_LAN_HOST"

func TestMain(m *testing.M) {
	if os.Getenv(envHost) != "" {
		os.Exit(serveHost(os.Stdin, os.Stdout))
	}
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" || flag.Lookup("test.fuzzworker").Value.String() == "true" {
		os.Exit(m.Run()) // decoders need no network
	}
	if os.Getenv(envNet) == "" {
		if err := again(); err != nil {
			fmt.Fprintln(os.Stderr, "addresses are tested in network namespaces, as root (in a container will do), with util-linux, iproute2 and nftables:", err)
			os.Exit(1)
		}
	}
	var err error
	if shared, err = newWorld(); err != nil {
		fmt.Fprintln(os.Stderr, "make the networks of the tests:", err)
		os.Exit(1)
	}
	// Those who hold the networks end with them.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.Cleanup(func(code int) {
		if err := shared.close(); err != nil {
			fmt.Fprintln(os.Stderr, "end the networks of the tests:", err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}

// shared is the tests' one world, made before the first of them: see borrow.
var shared *world

// again runs this program anew in a namespace of its own. It does not return if
// that succeeds.
func again() error {
	for _, tool := range []string{"ip", "nft", "setpriv"} {
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
