package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/stamp"
	"github.com/draasd/draas/measure"
)

// ServeCommand is the hidden subcommand of draasd that runs Serve: the demo
// starts its own executable with it.
const ServeCommand = "demo-service"

// ServeOptions describe one small HTTP service.
type ServeOptions struct {
	Listen  string          // IP:port
	Control string          // control socket of the site's daemon
	Service draas.ServiceID // whose epoch it stamps
	Site    draas.SiteID    // where it runs
}

// ParseServe reads the arguments of ServeCommand.
func ParseServe(args []string) (ServeOptions, error) {
	var o ServeOptions
	f := flag.NewFlagSet(ServeCommand, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.Listen, "listen", "", "IP:port")
	f.StringVar(&o.Control, "control", "", "control socket of the site's daemon")
	f.StringVar((*string)(&o.Service), "service", "", "the service's name")
	f.StringVar((*string)(&o.Site), "site", "", "the site's name")
	if err := f.Parse(args); err != nil {
		return o, fmt.Errorf("read arguments: %w", err)
	}
	if o.Listen == "" || o.Control == "" || o.Service == "" || o.Site == "" || f.NArg() > 0 {
		return o, errors.New("read arguments: want --listen, --control, --service and --site, and nothing else")
	}
	return o, nil
}

// args is the command line that ParseServe reads.
func (o ServeOptions) args() []string {
	return []string{ServeCommand, "--listen", o.Listen, "--control", o.Control,
		"--service", string(o.Service), "--site", string(o.Site)}
}

// Serve runs a small HTTP service until the context ends. It stamps its
// answers with its site, its clock, and the latest epoch under which its site
// was active, as the site's daemon says; when the daemon does not answer it
// stamps the last one it knows, and none before it knows one.
//
// It does not stop by itself when the permit ends: that is the fence's task,
// and the demo is there to show it.
func Serve(ctx context.Context, o ServeOptions) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	s := &server{options: o, epoch: stamp.New(o.Control, o.Service, o.Site)}
	h := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.epoch.Follow(ctx) })
	wg.Go(func() {
		<-ctx.Done()
		_ = h.Close() // the listener is closed with it; nothing waits for it
	})
	err = h.Serve(ln)
	cancel()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

type server struct {
	options ServeOptions
	epoch   *stamp.Epoch
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		// Who went away reads no answer.
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		epoch := s.epoch.Now(r.Context())
		w.Header().Set(measure.HeaderSite, string(s.options.Site))
		if epoch > 0 {
			w.Header().Set(measure.HeaderEpoch, strconv.FormatUint(uint64(epoch), 10))
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set(measure.HeaderTime, strconv.FormatInt(time.Now().UnixNano(), 10))
		_, _ = fmt.Fprintf(w, "%s at %s, epoch %d\n", s.options.Service, s.options.Site, epoch)
	})
	return mux
}
