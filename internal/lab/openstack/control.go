package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// ControlVariable names the environment's variable with the socket at which the
// tests beside the sites stop and start processes of theirs.
const ControlVariable = "DRAAS_SITES"

// endPatience is how long a database may take to write out what it has.
const endPatience = time.Minute

// Control lets others stop and start processes of sites by [Hold] and [Release],
// at a unix socket, until stop is called.
func Control(socket string, sites ...*Site) (stop func() error, err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{verb}/{site}/{process}", func(w http.ResponseWriter, r *http.Request) {
		for _, s := range sites {
			p := s.Process(r.PathValue("process"))
			if s.Name != r.PathValue("site") || p == nil {
				continue
			}
			switch r.PathValue("verb") {
			case "hold":
				if p.Hold(syscall.SIGTERM, endPatience) {
					http.Error(w, p.Name+" had to be killed", http.StatusInternalServerError)
				}
				return
			case "release":
				p.Release()
				return
			}
		}
		http.NotFound(w, r)
	})
	listener, err := new(net.ListenConfig).Listen(context.Background(), "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("open the sites' control: %w", err)
	}
	server, done := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}, make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return func() error {
		err := server.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// Hold ends a process of a site, as its service manager would, and keeps it from
// starting; it has ended when Hold returns.
func Hold(ctx context.Context, site, process string) error { return ask(ctx, "hold", site, process) }

// Release lets it start again; it may not be up when Release returns.
func Release(ctx context.Context, site, process string) error {
	return ask(ctx, "release", site, process)
}

func ask(ctx context.Context, verb, site, process string) error {
	socket := os.Getenv(ControlVariable)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	path := "/" + verb + "/" + site + "/" + process
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sites"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the sites for %s: %w", path, err)
	}
	answer, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask the sites for %s: %w", path, err)
	}
	defer answer.Body.Close()
	if said, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("ask the sites for %s: %s: %s", path, answer.Status, said), err)
	}
	return nil
}
