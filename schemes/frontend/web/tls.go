package web

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/http2"

	"github.com/draasd/draas/schemes/frontend"
)

// certificate opens a pair of files, once for all hosts that have it.
func (s *Server) certificate(cert, key string) (*frontend.Certificate, error) {
	name := [2]string{cert, key}
	s.mu.Lock()
	c := s.certs[name]
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := frontend.OpenCertificate(cert, key)
	if err != nil {
		return nil, fmt.Errorf("open certificate: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs[name] = c
	return c, nil
}

func (s *Server) certificates() []*frontend.Certificate {
	var out []*frontend.Certificate
	for _, c := range s.set.Load().certs {
		out = append(out, c)
	}
	return out
}

// reread reads the certificates' files again.
func (s *Server) reread() error {
	for _, c := range s.certificates() {
		if _, err := c.Reload(); err != nil {
			return fmt.Errorf("read certificate again: %w", err)
		}
	}
	return nil
}

// introduce reads the PROXY protocol's header where one is due. What came
// behind it is returned.
func (s *Server) introduce(g *greeting, set *settings, from *client) ([]byte, error) {
	if !frontend.Within(set.ProxyIn, from.peer) {
		return nil, nil
	}
	var buf []byte
	for len(buf) <= frontend.MaxProxyHeader {
		chunk := make([]byte, 512)
		n, err := g.tcp.Read(chunk)
		buf = append(buf, chunk[:n]...)
		if n == 0 && err != nil {
			return nil, err
		}
		h, used, err := frontend.ParseProxy(buf)
		switch {
		case errors.Is(err, frontend.ErrProxyShort):
			continue
		case err != nil:
			return nil, err
		}
		if h.Source.IsValid() {
			from.addr, from.local = h.Source, h.Destination
		}
		return buf[used:], nil
	}
	return nil, errors.New("the PROXY protocol's header is too long")
}

// handshake speaks TLS where the address does. two says that the client wants
// HTTP/2.
func (s *Server) handshake(tcp *net.TCPConn, set *settings, early []byte, from *client) (nc net.Conn, two bool, err error) {
	if set.tls == nil {
		return nil, false, nil
	}
	t := tls.Server(&prefixed{Conn: tcp, first: early}, set.tls)
	if err := t.HandshakeContext(s.hard); err != nil {
		return nil, false, err
	}
	from.scheme = "https"
	return t, t.ConnectionState().NegotiatedProtocol == http2.NextProtoTLS, nil
}

// preface finds out whether a client without TLS begins with HTTP/2. What was
// read for that is returned.
func (s *Server) preface(tcp *net.TCPConn, early []byte) ([]byte, bool, error) {
	want := []byte(http2.ClientPreface)
	buf := append(make([]byte, 0, 512), early...)
	for len(buf) < len(want) && bytes.HasPrefix(want, buf) {
		n, err := tcp.Read(buf[len(buf):cap(buf)])
		if n == 0 && err != nil {
			return nil, false, err
		}
		buf = buf[:len(buf)+n]
	}
	return buf, bytes.HasPrefix(buf, want), nil
}

// prefixed is a connection of which some was read already.
type prefixed struct {
	net.Conn
	first []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// tlsConfig is that of the settings' hosts.
func (s *Server) tlsConfig(set *settings) *tls.Config {
	if len(set.certs) == 0 {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{http2.NextProtoTLS, "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			set := s.set.Load()
			h := set.find([]byte(hello.ServerName))
			if h == nil {
				return nil, errors.New("no such host here")
			}
			return set.certs[h].Current(), nil
		},
	}
}
