package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
)

// askTimeout bounds one question to a daemon. A request waits up to 10 s there
// for its decision.
const askTimeout = 15 * time.Second

// Where failover.toml is looked for when -c does not name it.
const (
	hereConfig   = "failover.toml"
	systemConfig = "/etc/draas/failover.toml"
)

// configFlag declares -c.
func configFlag(f *flag.FlagSet) *string {
	return f.String("c", "", "`FILE` to read; default ./failover.toml if there is one, else "+systemConfig)
}

func configPath(named string) string {
	if named != "" {
		return named
	}
	if _, err := os.Stat(hereConfig); err == nil {
		return hereConfig
	}
	return systemConfig
}

// clientFlags say which daemon a command speaks to.
type clientFlags struct {
	config, socket, api *string
}

func bindClient(f *flag.FlagSet) clientFlags {
	return clientFlags{
		config: configFlag(f),
		socket: f.String("socket", "", "`PATH` of the daemon's control socket, instead of the file's"),
		api:    f.String("api", "", "`HOST:PORT` or member whose API to ask, over mutual TLS with the file's certificates"),
	}
}

// dial makes the client; nothing is sent yet.
func (c clientFlags) dial(s server) (*api.Client, error) {
	if *c.socket != "" && *c.api != "" {
		return nil, usagef("--socket and --api name two daemons: give one")
	}
	if *c.socket != "" {
		return api.Unix(*c.socket), nil
	}
	conf, err := s.load(configPath(*c.config))
	if err != nil {
		return nil, err
	}
	if *c.api == "" {
		return api.Unix(conf.Control), nil
	}
	member, address, err := apiAddress(conf, *c.api)
	if err != nil {
		return nil, err
	}
	t, err := s.tls(conf, member)
	if err != nil {
		return nil, err
	}
	return api.TLS(address, t), nil
}

// apiAddress reads --api: a member's name, the address that the file gives it,
// or, for a way that the file does not know, MEMBER=HOST:PORT. The member
// answers with its certificate whatever its address.
func apiAddress(c *config.Config, text string) (draas.MemberID, string, error) {
	name, address, named := strings.Cut(text, "=")
	var known []string
	for _, m := range c.Members {
		switch {
		case named && string(m.ID) == name:
			return m.ID, address, nil
		case !named && m.API != "" && (m.API == text || string(m.ID) == text):
			return m.ID, m.API, nil
		case m.API != "":
			known = append(known, fmt.Sprintf("%s=%s", m.ID, m.API))
		}
	}
	if len(known) == 0 {
		return "", "", usagef("--api %s: the file gives no member an api address; MEMBER=HOST:PORT names one", text)
	}
	return "", "", usagef("--api %s: the file knows %s; for another way to a member write MEMBER=HOST:PORT", text, strings.Join(known, ", "))
}
