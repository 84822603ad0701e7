package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// openControl listens on the control socket and, where the file says so, on
// the API's address over mutual TLS.
func (d *Daemon) openControl(undo *cleanups) ([]net.Listener, error) {
	unix, err := listenControl(d.now().cfg.Control)
	if err != nil {
		return nil, err
	}
	undo.add("remove control socket", func() error { return closed(unix.Close()) })
	listeners := []net.Listener{unix}
	if d.now().self.API != "" {
		tls, err := d.listenTLS(d.now().self.API)
		if err != nil {
			return nil, err
		}
		undo.add("close API", func() error { return closed(tls.Close()) })
		listeners = append(listeners, tls)
	}
	undo.add("close API clients", func() error {
		for _, w := range append(d.files.read, d.now()) {
			w.close()
		}
		return nil
	})
	return listeners, nil
}

// listenControl takes over a socket that a dead daemon left behind. That no
// living one has it is known from the data directory's lock.
func listenControl(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect control socket: %w", err), ln.Close())
	}
	return ln, nil
}

func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
