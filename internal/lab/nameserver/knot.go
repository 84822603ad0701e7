package nameserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
)

type knot struct{}

func (knot) prepare(s *Server) error {
	if s.Primary != "" {
		return nil
	}
	return s.write(s.Zone+"zone", s.ZoneFile())
}

func (knot) configure(s *Server) error {
	text := fmt.Sprintf(`server:
    rundir: %s
    pidfile: %[1]s/knot.pid
    listen: %[2]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 2

database:
    storage: %[3]s
    journal-db-max-size: 16M

control:
    listen: %[1]s/knot.sock

log:
  - target: stderr
    any: info

`, s.run, at(s.Address), s.dir)
	if s.Primary == "" {
		own, err := s.text("knot.conf")
		if err != nil {
			return err
		}
		return s.write("knot.conf", text+own)
	}
	k := s.Transfer
	remotes, ids := "", []string(nil)
	for i, p := range append([]string{s.Primary}, s.Primaries...) {
		ids = append(ids, fmt.Sprintf("primary%d", i+1))
		remotes += fmt.Sprintf("  - id: %s\n    address: %s\n    key: %s\n", ids[i], at(p), k.Name)
	}
	return s.write("knot.conf", text+fmt.Sprintf(`key:
  - id: %[1]s
    algorithm: %[2]s
    secret: %[3]s

remote:
%[4]s
acl:
  - id: primary
    key: %[1]s
    action: notify

zone:
  - domain: %[5]s
    master: [%[6]s]
    acl: primary
    zonefile-sync: -1
    zonefile-load: none
    refresh-min-interval: 2
    retry-min-interval: 2
`, k.Name, k.Algorithm, k.Secret, remotes, s.Zone, strings.Join(ids, ", ")))
}

// at writes an address as Knot does.
func at(address string) string {
	host, port, _ := net.SplitHostPort(address)
	return host + "@" + port
}

// argv also removes the pid file: knotd does not start while it names a
// process, and one that its parent has not waited for counts as one.
func (knot) argv(s *Server) []string {
	if err := os.Remove(s.run + "/knot.pid"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	return []string{"knotd", "-c", s.path("knot.conf")}
}

func (knot) knotc(s *Server, args ...string) error {
	return s.tool(append([]string{"knotc", "-b", "-s", s.run + "/knot.sock"}, args...)...)
}

func (k knot) reload(s *Server) error { return k.knotc(s, "reload") }

func (k knot) freeze(s *Server, frozen bool) error {
	verb := "zone-thaw"
	if frozen {
		verb = "zone-freeze"
	}
	return k.knotc(s, verb, strings.TrimSuffix(s.Zone, "."))
}
