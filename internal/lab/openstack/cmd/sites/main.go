// Command sites starts two real OpenStack sites, runs a command beside them, and
// ends them:
//
//	sites go test -tags openstack ./syncer/openstack
//	sites sh        # to look around, with openstack --os-cloud east
//
// The command finds their clouds.yaml by OS_CLIENT_CONFIG_FILE. It needs root, and
// what etc/setup/openstack-packages installs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/draasd/draas/internal/lab/openstack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("sites", flag.ContinueOnError)
	dir := flags.String("dir", "", "`DIR` of the sites; default: a temporary one, which is removed")
	services := flags.String("services", "", "only these `SERVICES` beside keystone, as glance,neutron")
	workers := flags.Int("workers", 0, "API processes of Neutron; 0: it does all in its one")
	if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "want: sites [-dir DIR] [-services LIST] [-workers N] COMMAND...")
		return 2
	}
	o := openstack.Options{Workers: *workers, Say: os.Stderr}
	if only := strings.FieldsFunc(*services, func(r rune) bool { return r == ',' }); len(only) > 0 {
		o.Services = only
	}
	err := beside(ctx, *dir, o, flags.Args())
	var ended *commandError
	switch {
	case errors.As(err, &ended) && ended.code > 0:
		return ended.code
	case err != nil:
		fmt.Fprintln(os.Stderr, "sites:", err)
		return 1
	}
	return 0
}

// commandError is the end of the command: it has said why.
type commandError struct{ code int }

func (e *commandError) Error() string { return fmt.Sprintf("the command has ended with %d", e.code) }

// beside runs a command beside two sites.
func beside(ctx context.Context, dir string, o openstack.Options, command []string) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "openstack-sites"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	sites, err := openstack.Pair(ctx, dir, o)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range sites {
			err = errors.Join(err, s.Stop())
		}
		left, looked := openstack.Left(sites[0].Dir+"/", sites[1].Dir+"/")
		if len(left) > 0 {
			looked = fmt.Errorf("stopped, the sites have left %q", left)
		}
		err = errors.Join(err, looked)
	}()
	clouds := filepath.Join(dir, "clouds.yaml")
	if err := os.WriteFile(clouds, []byte(openstack.Clouds(sites[:]...)), 0o600); err != nil {
		return err
	}
	control := filepath.Join(dir, "control")
	stop, err := openstack.Control(control, sites[:]...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "OS_CLIENT_CONFIG_FILE="+clouds, openstack.ControlVariable+"="+control)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	err = cmd.Run()
	if exit, is := err.(*exec.ExitError); is {
		return &commandError{exit.ExitCode()}
	}
	return err
}
