package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
)

// listenTLS listens for the control API over mutual TLS: whoever has a
// certificate of the cluster's CA may ask. The files are read again for every
// connection, so that a rotation needs no restart.
func (d *Daemon) listenTLS(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for control API: %w", err)
	}
	conf := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return serverTLS(d.now().cfg)
	}}
	if _, err := serverTLS(d.now().cfg); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return tls.NewListener(ln, conf), nil
}

func serverTLS(c *config.Config) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("load own certificate: %w", err)
	}
	roots, err := connect.Roots(c.TLS.CA)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, NextProtos: []string{"http/1.1"}}, nil
}

// ClientTLS is how a member, or an operator with the file's certificate, asks
// the API of another: by its name, whatever its address.
func ClientTLS(c *config.Config, member draas.MemberID) (*tls.Config, error) {
	return connect.ClientTLS(c.TLS, member)
}
