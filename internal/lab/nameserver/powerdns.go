package nameserver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// schema is where Debian has the tables of PowerDNS' SQLite backend.
const schema = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"

type powerdns struct{}

func (powerdns) prepare(s *Server) error {
	if _, err := os.Stat(schema); err != nil {
		return fmt.Errorf("apt-get install pdns-backend-sqlite3: %w", err)
	}
	if err := s.write(s.Zone+"zone", s.ZoneFile()); err != nil {
		return err
	}
	return s.tool("sqlite3", s.path("pdns.sqlite3"), "PRAGMA journal_mode=WAL", ".read "+schema)
}

func (p powerdns) configure(s *Server) error {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	own, err := s.text("pdns.conf")
	if err != nil {
		return err
	}
	if s.Primary != "" {
		own = "launch=gsqlite3\ngsqlite3-database=" + s.dir + "pdns.sqlite3\nsecondary=yes\nxfr-cycle-interval=1\n"
	}
	text := fmt.Sprintf(`local-address=%s
local-port=%s
socket-dir=%s
daemon=no
guardian=no
receiver-threads=1
distributor-threads=1
loglevel=5
query-local-address=%[1]s
%[4]s`, host, port, s.run, own)
	if err := s.write("pdns.conf", text); err != nil {
		return err
	}
	script, err := s.text("pdns.sh")
	if err != nil {
		return err
	}
	if k := s.Transfer; s.Primary != "" {
		script = fmt.Sprintf(`pdnsutil create-secondary-zone %[1]s %[2]s
pdnsutil import-tsig-key %[3]s %[4]s %[5]s
pdnsutil set-meta %[1]s AXFR-MASTER-TSIG %[3]s
pdnsutil set-meta %[1]s IXFR 1
`, s.Zone, s.Primary, k.Name, k.Algorithm, k.Secret)
	}
	if s.cmd != nil { // only the key may have changed
		if err := s.tool("sqlite3", s.path("pdns.sqlite3"), "DELETE FROM tsigkeys"); err != nil {
			return err
		}
	}
	for line := range strings.Lines(script) {
		argv := strings.Fields(line)
		if s.cmd != nil && argv[1] != "import-tsig-key" && argv[3] != "TSIG-ALLOW-DNSUPDATE" {
			continue
		}
		argv = append([]string{argv[0], "--config-dir=" + s.dir}, argv[1:]...)
		if err := s.tool(argv...); err != nil {
			return err
		}
	}
	return nil
}

func (powerdns) argv(s *Server) []string {
	return []string{"pdns_server", "--config-dir=" + s.dir}
}

// reload forgets what PowerDNS keeps of its database: a zone's metadata for a
// minute (domain-metadata-cache-ttl).
func (powerdns) reload(s *Server) error {
	return s.tool("pdns_control", "--socket-dir="+s.run, "purge")
}

func (powerdns) freeze(*Server, bool) error { return errors.New("PowerDNS cannot freeze a zone") }
