package nameserver

import (
	"fmt"
	"net"
)

type bind struct{}

func (bind) prepare(s *Server) error {
	rndc := NewKey("rndc", "hmac-sha256")
	if err := s.write("rndc.key", rndc.File()); err != nil {
		return err
	}
	if s.Primary != "" {
		return nil
	}
	return s.write(s.Zone+"zone", s.ZoneFile())
}

func (bind) configure(s *Server) error {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	chost, cport, err := net.SplitHostPort(s.control)
	if err != nil {
		return err
	}
	if err := s.write("draas.key", s.Key.File()); err != nil {
		return err
	}
	if err := s.write("transfer.key", s.Transfer.File()); err != nil {
		return err
	}
	text := fmt.Sprintf(`options {
	directory "%s";
	listen-on port %s { %s; };
	listen-on-v6 { none; };
	pid-file none;
	lock-file none;
	session-keyfile "%s/session.key";
	recursion no;
	dnssec-validation no;
	empty-zones-enable no;
	notify explicit;
	transfers-per-ns 10;
	max-journal-size 200k;
	notify-source %[3]s;
	transfer-source %[3]s;
};
include "%[1]srndc.key";
controls { inet %[5]s port %[6]s allow { any; } keys { rndc; }; };
`, s.dir, port, host, s.run, chost, cport)
	if s.Primary == "" {
		own, err := s.text("bind.conf")
		if err != nil {
			return err
		}
		return s.write("named.conf", text+own)
	}
	primaries := ""
	for _, p := range append([]string{s.Primary}, s.Primaries...) {
		phost, pport, err := net.SplitHostPort(p)
		if err != nil {
			return err
		}
		primaries += fmt.Sprintf("%s port %s key %s; ", phost, pport, s.Transfer.Name)
	}
	return s.write("named.conf", text+fmt.Sprintf(`include "%[3]stransfer.key";
zone "%[1]s" {
	type secondary;
	file "%[3]ssecondary";
	primaries { %[2]s};
	allow-notify { any; };
	min-refresh-time 1;
	min-retry-time 1;
};
`, s.Zone, primaries, s.dir))
}

func (bind) argv(s *Server) []string {
	return []string{"named", "-g", "-n", "1", "-U", "1", "-c", s.path("named.conf")}
}

func (bind) rndc(s *Server, args ...string) error {
	host, port, err := net.SplitHostPort(s.control)
	if err != nil {
		return err
	}
	return s.tool(append([]string{"rndc", "-k", s.path("rndc.key"), "-s", host, "-p", port}, args...)...)
}

func (b bind) reload(s *Server) error { return b.rndc(s, "reconfig") }

func (b bind) freeze(s *Server, frozen bool) error {
	verb := "thaw"
	if frozen {
		verb = "freeze"
	}
	return b.rndc(s, verb, s.Zone)
}
