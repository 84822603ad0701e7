package matrix

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/draasd/draas/internal/lab/nameserver"
)

// startNamed starts a BIND outside that has the zone, and takes updates of the
// service's name by the key, as docs/dns.md tells to set it up.
func (w *world) startNamed() error {
	if _, err := w.net.add(named, outside, hostNamed); err != nil {
		return err
	}
	w.key = nameserver.NewKey("draas.", "hmac-sha256")
	dir := filepath.Join(w.dir, named)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the name server: %w", err)
	}
	at := address(outside, hostNamed)
	for file, text := range map[string]string{
		"zone": fmt.Sprintf("$ORIGIN %s\n@ 1 SOA ns hostmaster 1 3600 600 86400 1\n@ 60 NS ns\nns 60 A %s\n", zone, at),
		"named.conf": w.key.File() + fmt.Sprintf(`options {
	directory %q;
	listen-on { %s; };
	listen-on-v6 { none; };
	pid-file none;
	lock-file none;
	session-keyfile "%s/session.key";
	recursion no;
	dnssec-validation no;
	empty-zones-enable no;
	notify no;
};
controls { };
zone %q {
	type primary;
	file "zone";
	update-policy {
		grant %s name %s A AAAA CNAME;
		grant %s name _draas.%s TXT;
	};
};
`, dir, at, dir, zone, w.key.Name, serviceName, w.key.Name, serviceName),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write configuration of the name server: %w", err)
		}
	}
	w.start(named, named, "named", "-g", "-n", "1", "-U", "1", "-c", filepath.Join(dir, "named.conf"))
	return nil
}
