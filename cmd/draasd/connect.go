package main

import (
	"errors"
	"flag"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
)

// askTimeout bounds one question to a daemon. A request waits up to 10 s there
// for its decision.
const askTimeout = 15 * time.Second

// configFlag declares -c.
func configFlag(f *flag.FlagSet) *string { return connect.ConfigFlag(f) }

func configPath(named string) string { return connect.ConfigPath(named) }

// clientFlags say which daemon a command speaks to.
type clientFlags struct{ connect.Flags }

func bindClient(f *flag.FlagSet) clientFlags { return clientFlags{connect.Bind(f)} }

// dial makes the client; nothing is sent yet.
func (c clientFlags) dial(s server) (*api.Client, error) {
	client, err := c.Dial(s.load, s.tls)
	var wrong *connect.UsageError
	if errors.As(err, &wrong) {
		return nil, usagef("%s", wrong.Text)
	}
	return client, err
}
