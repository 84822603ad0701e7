package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cost is what a process, or several that ran together, needed.
type cost struct {
	wall     time.Duration
	cpu      time.Duration // user and system
	rss      int64         // KiB: the most that was resident, the sum of those that ran together
	requests int
}

// finish reads what a process that has ended needed. Its memory is never less
// than what this one had when it was started (getrusage(2), RUSAGE_CHILDREN).
func finish(cmd *exec.Cmd, began time.Time) cost {
	c := cost{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.rss = u.Maxrss
	}
	return c
}

// command is a process that ends with this one.
func command(ctx context.Context, dir string, env []string, argv ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	said := new(bytes.Buffer)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	return cmd, said
}

// run runs a program to its end.
func run(ctx context.Context, dir string, env []string, argv ...string) (cost, string, error) {
	cmd, said := command(ctx, dir, env, argv...)
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return cost{}, said.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv[:min(len(argv), 4)], " "), err, tail(said.String()))
	}
	return finish(cmd, began), said.String(), nil
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

// pair is a configuration by which draasd carries east to west.
type pair struct {
	b    *bench
	dir  string
	file string
}

// configuration is the least that draasd takes, and that nobody has to wait
// before what is gone may be deleted.
const configuration = `cluster = "bench"
data = "data"
[tls]
ca = "ca.crt"
cert = "member.crt"
key = "member.key"
[member.east]
role = "site"
peer = "127.0.0.1:7400"
dns = "127.0.0.1:7453"
cloud = "east"
[member.west]
role = "site"
peer = "127.0.0.1:7402"
dns = "127.0.0.1:7454"
cloud = "west"
[member.witness]
role = "witness"
peer = "127.0.0.1:7404"
[service.shop]
home = "east"
scheme = "dns"
address.east = ["127.0.0.1"]
address.west = ["127.0.0.2"]
[service.shop.dns]
name = "shop.example.org."
use = "public"
[[service.shop.check]]
type = "tcp"
port = 80
[dns.public]
provider = "embedded"
zone = "example.org."
ns.east = "ns1.example.net."
ns.west = "ns2.example.net."
[sync]
follows = "shop"
clouds_file = "clouds.yaml"
state = "sync.db"
plain = true
missing = 1
grace = "0s"
`

// newPair writes the files; clouds is a clouds.yaml.
func (b *bench) newPair(name, clouds string) (*pair, error) {
	p := &pair{b: b, dir: filepath.Join(b.dir, name)}
	p.file = filepath.Join(p.dir, "failover.toml")
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	return p, errors.Join(
		os.WriteFile(p.file, []byte(configuration), 0o600),
		os.WriteFile(filepath.Join(p.dir, "clouds.yaml"), []byte(clouds), 0o600))
}

// sync runs draasd sync VERB, as people do.
func (p *pair) sync(ctx context.Context, verb string, args ...string) (cost, string, error) {
	argv := append([]string{p.b.o.Draasd, "sync", verb, "-c", p.file, "--from", "east", "--to", "west"}, args...)
	if verb == "run" {
		argv = append(argv, "--yes")
	}
	return run(ctx, p.dir, nil, argv...)
}

// forget what was written: the next run is the first.
func (p *pair) forget() error {
	if err := os.Remove(filepath.Join(p.dir, "sync.db")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove records: %w", err)
	}
	return nil
}
