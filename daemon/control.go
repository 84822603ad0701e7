package daemon

import (
	"errors"
	"net"

	"github.com/draasd/draas/api"
)

// openControl listens on the control socket and, where the file says so, on
// the API's address over mutual TLS.
func (d *Daemon) openControl(undo *cleanups) ([]net.Listener, error) {
	unix, err := api.Listen(d.now().cfg.Control) // the data directory's lock says that nobody has it
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

func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
