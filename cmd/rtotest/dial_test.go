package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
)

// newCluster makes the files of a cluster, and serves the API of dr over
// mutual TLS with its own certificate.
func newCluster(t *testing.T) (dir, address string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "cluster")
	if err := daemon.Init(dir, daemon.InitOptions{Loopback: config.LoopbackOptions{BasePort: 20400}}); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, "dr", "tls", name) }
	roots, err := connect.Roots(at("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(at("member.crt"), at("member.key"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := api.Status{Cluster: "acme", Self: "dr", At: time.Now(), Services: []api.ServiceStatus{shop()}}
		if r.URL.Path == api.PathHistory {
			_, _ = fmt.Fprint(w, "[]") // the asker may have gone
			return
		}
		_ = json.NewEncoder(w).Encode(s)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // ends with Close
	t.Cleanup(func() { server.Close(); serving.Wait() })
	return dir, ln.Addr().String()
}

// TestDial: the members are found by the file, or by certificates alone, and
// only the one that was meant is believed.
func TestDial(t *testing.T) {
	dir, address := newCluster(t)
	file := filepath.Join(dir, "primary", "failover.toml")
	o := daemonOptions{file: file}
	members, err := o.dial()
	if err != nil || len(members) != 3 {
		t.Fatalf("%v, %v", members, err)
	}
	var found []string
	for _, m := range members {
		found = append(found, string(m.name)+"="+m.address)
		m.asker.Close()
	}
	if got := strings.Join(found, " "); got != "dr=127.0.0.1:20411 primary=127.0.0.1:20401 witness=127.0.0.1:20421" {
		t.Errorf("%s", got)
	}
	files := config.TLS{CA: filepath.Join(dir, "witness/tls/ca.crt"), Cert: filepath.Join(dir, "witness/tls/member.crt"), Key: filepath.Join(dir, "witness/tls/member.key")}
	for _, c := range []struct {
		o    daemonOptions
		want string // of the error, empty for none
	}{
		{daemonOptions{file: file, api: []string{"dr=" + address}}, ""},
		{daemonOptions{tls: files, api: []string{"dr=" + address}}, ""},
		{daemonOptions{tls: files, api: []string{"primary=" + address}}, "certificate is valid for dr"},
		{daemonOptions{file: file, api: []string{"mars=" + address}}, "the file knows"},
		{daemonOptions{file: file, api: []string{"dr", "127.0.0.1:20411"}}, "twice"},
	} {
		members, err := c.o.dial()
		if err == nil {
			_, err = members[0].ask(t.Context())
			members[0].asker.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %v, want %q", c.o.api, err, c.want)
		}
	}
	s := newService(t, never, never, nil)
	code, stdout, stderr := rtotest("-c", file, "--api", "dr="+address+",witness=127.0.0.1:1", "--duration", "100ms", s.URL)
	if code != exitMet || !strings.Contains(stdout, "draasd, service shop") || !strings.Contains(stdout, "witness not known: ") || !strings.Contains(stdout, "move           none in this time") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

// TestAlone: a file that gives no member an address means the daemon here.
func TestAlone(t *testing.T) {
	dir, _ := newCluster(t)
	file := filepath.Join(dir, "dr", "failover.toml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "api = ") {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	o := daemonOptions{file: file}
	members, err := o.dial()
	if err != nil || len(members) != 1 || members[0].name != "" || !filepath.IsAbs(members[0].address) {
		t.Fatalf("%+v, %v", members, err)
	}
	members[0].asker.Close()
	if _, _, err := net.SplitHostPort(members[0].address); err == nil {
		t.Errorf("%s is no socket", members[0].address)
	}
}
