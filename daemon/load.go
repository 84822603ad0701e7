package daemon

import (
	"fmt"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
)

// Load reads and checks a failover.toml. Relative paths in it are taken from
// its directory.
func Load(path string) (*config.Config, error) { return connect.Load(path) }

// Identity is the member that this machine is: the common name of its
// certificate. A role is never taken from the file.
func Identity(c *config.Config) (config.Member, error) {
	name, err := connect.CommonName(c.TLS.Cert)
	if err != nil {
		return config.Member{}, err
	}
	m, known := c.Member(draas.MemberID(name))
	if !known {
		return config.Member{}, fmt.Errorf("%s names %q, which is no member in the file: its common name must be one of the [member.NAME]", c.TLS.Cert, name)
	}
	return m, nil
}
