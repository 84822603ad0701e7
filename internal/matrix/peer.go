package matrix

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/draasd/draas/measure"
)

// peer is what a column has in the place of draas: HAProxy, which uses the
// second site as a backup, by what it sees itself; and for a pair of them
// keepalived, which holds their address. There is no decision and no fence,
// and nothing keeps both sites, or both of a pair, from serving.
type peer struct {
	// Advert is how often keepalived's holder says that it lives; zero: one
	// HAProxy alone.
	Advert time.Duration
}

// peers starts them.
func (w *world) peers(ctx context.Context) error {
	for _, s := range sites {
		w.start(counterOf(s), serviceHost(s), w.counterArgs(s, "")...)
	}
	file := filepath.Join(w.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(haproxyBackup()), 0o644); err != nil {
		return fmt.Errorf("write configuration of HAProxy: %w", err)
	}
	for i, f := range w.frontends() {
		if _, err := w.net.add(f.name, f.place, f.host); err != nil {
			return err
		}
		w.start(f.name+"-frontend", f.name, "haproxy", "-db", "-q", "-f", file)
		if w.Peer.Advert == 0 {
			continue
		}
		own := filepath.Join(w.dir, "keepalived-"+f.name+".conf")
		if err := os.WriteFile(own, []byte(w.Peer.keepalived(i)), 0o644); err != nil {
			return fmt.Errorf("write configuration of keepalived: %w", err)
		}
		w.start(f.name+"-keepalived", f.name, "keepalived", "--dont-fork", "--log-console", "--vrrp", "-p", "/run/keepalived.pid", "-r", "/run/vrrp.pid", "-f", own)
	}
	w.peersAsked()
	return w.peersWell(ctx)
}

// peersAsked fills in who asks: by address, since no name is moved here. Both
// sites serve whoever comes, so nobody asks them straight.
func (w *world) peersAsked() {
	var all []asker
	for _, k := range kinds() {
		if k != kindResolver {
			all = append(all, asker{Name: k, URL: "http://" + w.peerAt() + "/", Kind: k, Rate: rate, Patience: patience, Writes: k == kindFresh})
		}
	}
	w.asking = []asking{{users, all}}
}

func (w *world) peerAt() string { return fmt.Sprintf("%s:%d", w.entries()[0], webPort) }

// haproxyBackup is a HAProxy that sends again what it may, and switches after
// two failed looks, 100 ms apart.
func haproxyBackup() string {
	return fmt.Sprintf(`global
  nbthread 2
  maxconn 4000
defaults
  mode http
  timeout connect 200ms
  timeout client 600s
  timeout server 1s
  timeout tunnel 600s
frontend in
  bind :%d
  default_backend back
backend back
  option httpchk GET /healthz
  timeout check 100ms
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response response-timeout junk-response 503
  default-server inter 100ms fall 2 rise 2
  server primary %s:%d check on-marked-down shutdown-sessions
  server dr %s:%d check backup
`, webPort, serviceAddress(primary), webPort, serviceAddress(dr), webPort)
}

// keepalived is the configuration of the pair's i-th: by VRRP version 3, and it
// looks every second, which is the most often it can, that its HAProxy runs.
func (p *peer) keepalived(i int) string {
	return fmt.Sprintf(`global_defs {
  vrrp_version 3
  script_user root
  enable_script_security
}
vrrp_script haproxy {
  script "/bin/bash -c '</dev/tcp/127.0.0.1/%d'"
  interval 1
  timeout 1
  fall 1
  rise 1
  weight -100
}
vrrp_instance front {
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority %d
  advert_int %g
  virtual_ipaddress {
    %s/24
  }
  track_script {
    haproxy
  }
}
`, webPort, 200-50*i, p.Advert.Seconds(), address(edge, hostVIP))
}

// peersWell waits until users are answered by the primary site.
func (w *world) peersWell(ctx context.Context) error {
	err := await(ctx, homeLimit, func(context.Context) error {
		var site string
		err := w.net.machines[users].Inside(func() (err error) {
			site, err = askOnce(w.peerAt())
			return err
		})
		if err == nil && site != primary {
			err = fmt.Errorf("%s answers", site)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until %s is well: %w", w.Name, err)
	}
	return nil
}

// askOnce asks who answers at an address. It does all on the caller's thread,
// which may be in another network.
func askOnce(at string) (site string, err error) {
	conn, err := net.DialTimeout("tcp", at, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", at); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", errors.New(res.Status)
	}
	return res.Header.Get(measure.HeaderSite), nil
}
