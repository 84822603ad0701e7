package quorum

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

// pipes is a listener whose connections are pipes, which know simulated time.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.ended:
	default:
		close(p.ended)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

func TestSlowHandshakeIsHungUpOn(t *testing.T) {
	ca, err := NewCA("test", Validity{time.Now().Add(-time.Hour), time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue("a", nil, Validity{time.Now().Add(-time.Hour), time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := TLSFiles{filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")}
	for name, data := range map[string][]byte{files.CA: ca.CertPEM, files.Cert: id.CertPEM, files.Key: id.KeyPEM} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ln := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
		tr, err := NewTransport(TransportConfig{
			Self: "a", Cluster: ClusterID{1}, Incarnation: 1, Listener: ln, TLS: files,
			Log:   slog.New(slog.NewTextHandler(&log, nil)),
			Inbox: func(Message) {}, PeerDown: func(draas.MemberID) {}, Asked: func(draas.MemberID, func()) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- tr.Run(ctx) }()
		complaints := func() int { return strings.Count(log.String(), "connection refused") }

		// One byte of a TLS greeting every second.
		start := time.Now()
		conn := ln.dial()
		for _, b := range []byte{22, 3, 1, 1, 0, 1, 0, 0, 250, 3, 3} {
			if _, err = conn.Write([]byte{b}); err != nil {
				break
			}
			<-time.After(time.Second)
		}
		if d := time.Since(start); err == nil || d < handshakeTimeout || d > handshakeTimeout+time.Second {
			t.Errorf("a slow greeting ended after %v: %v", d, err)
		}
		synctest.Wait()
		if tr.Refused() != 1 || complaints() != 1 {
			t.Errorf("counted %d, logged %d", tr.Refused(), complaints())
		}
		// One complaint a minute, however many come.
		for i := range 10 {
			ln.dial().Close()
			synctest.Wait()
			if want := uint64(i + 2); tr.Refused() != want || complaints() != 1 {
				t.Errorf("counted %d of %d, logged %d", tr.Refused(), want, complaints())
			}
		}
		<-time.After(complainEvery)
		ln.dial().Close()
		synctest.Wait()
		if complaints() != 2 {
			t.Errorf("logged %d after a minute", complaints())
		}
		// No more than so many may wait.
		var held []net.Conn
		for range maxPending + 10 {
			held = append(held, ln.dial())
		}
		synctest.Wait()
		tr.mu.Lock()
		pending := len(tr.pending)
		tr.mu.Unlock()
		if pending != maxPending {
			t.Errorf("%d connections wait, %d may", pending, maxPending)
		}
		for i, c := range held {
			err := c.SetReadDeadline(time.Now().Add(time.Millisecond)) // fails once the other end is closed
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			if closed := !errors.Is(err, os.ErrDeadlineExceeded); closed != (i < 10) {
				t.Errorf("connection %d of %d: %v", i, len(held), err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, c := range held {
			c.Close()
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7}, 64)
	f.Add([]byte{0, 0, 0, 9, 7, 1, 2, 3, 4, 5, 6, 7, 8}, 64)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 1<<20)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		limit = min(max(limit, 0), 1<<20)
		fr, err := readFrame(bufio.NewReader(bytes.NewReader(data)), limit)
		if err != nil {
			return
		}
		if len(fr.Payload)+1 > limit {
			t.Fatalf("read %d bytes, %d were allowed", len(fr.Payload)+1, limit)
		}
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := errors.Join(writeFrame(w, fr), w.Flush()); err != nil || !bytes.HasPrefix(data, b.Bytes()) {
			t.Fatalf("%x became %x, %v", data, b.Bytes(), err)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello{protocolVersion, lowestVersion, ClusterID{1}, 2, "dr", "primary"}.encode())
	f.Add(append(hello{protocolVersion + 1, protocolVersion, ClusterID{1}, 2, "dr", "primary"}.encode(), "more"...))
	f.Add(hello{protocolVersion + 1, protocolVersion + 1, ClusterID{1}, 2, "dr", "primary"}.encode())
	f.Add(hello{protocolVersion, lowestVersion, ClusterID{1}, 2, draas.MemberID(strings.Repeat("a", 255)), "primary"}.encode())
	f.Add(encodeRefusal(ErrDuplicate))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := decodeRefusal(data); err == nil {
			t.Fatal("a refusal that is none")
		}
		h, err := decodeHello(data)
		if err != nil || !h.understood() {
			return
		}
		if again := h.encode(); !bytes.HasPrefix(data, again) {
			t.Fatalf("%x became %x", data, again)
		}
	})
}
