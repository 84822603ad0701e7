// Package connect finds the daemons that a command speaks to: by failover.toml
// and the certificates that it names, or by flags alone.
package connect

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
)

// Where failover.toml is looked for when -c does not name it.
const (
	hereConfig   = "failover.toml"
	systemConfig = "/etc/draas/failover.toml"
)

// UsageError says that the command line is wrong.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func usagef(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}

// ConfigFlag declares -c.
func ConfigFlag(f *flag.FlagSet) *string {
	return f.String("c", "", "`FILE` to read; default ./failover.toml if there is one, else "+systemConfig)
}

// ConfigPath is the file that -c names, or where it is looked for.
func ConfigPath(named string) string {
	if named != "" {
		return named
	}
	if _, err := os.Stat(hereConfig); err == nil {
		return hereConfig
	}
	return systemConfig
}

// Flags say which daemon a command speaks to.
type Flags struct {
	config, socket, api *string
}

// Bind declares the flags.
func Bind(f *flag.FlagSet) Flags {
	return Flags{
		config: ConfigFlag(f),
		socket: f.String("socket", "", "`PATH` of the daemon's control socket, instead of the file's"),
		api:    f.String("api", "", "`HOST:PORT` or member whose API to ask, over mutual TLS with the file's certificates"),
	}
}

// File is the one that -c names; empty: none.
func (f Flags) File() string { return *f.config }

// Dial makes the client; nothing is sent yet.
func (f Flags) Dial(load func(path string) (*config.Config, error), conf func(*config.Config, draas.MemberID) (*tls.Config, error)) (*api.Client, error) {
	if *f.socket != "" && *f.api != "" {
		return nil, usagef("--socket and --api name two daemons: give one")
	}
	if *f.socket != "" {
		return api.Unix(*f.socket), nil
	}
	c, err := load(ConfigPath(*f.config))
	if err != nil {
		return nil, err
	}
	if *f.api == "" {
		return api.Unix(c.Control), nil
	}
	member, address, err := Member(c, *f.api)
	if err != nil {
		return nil, err
	}
	t, err := conf(c, member)
	if err != nil {
		return nil, err
	}
	return api.TLS(address, t), nil
}

// Member reads --api: a member's name, the address that the file gives it,
// or, for a way that the file does not know, MEMBER=HOST:PORT. The member
// answers with its certificate whatever its address.
func Member(c *config.Config, text string) (draas.MemberID, string, error) {
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
