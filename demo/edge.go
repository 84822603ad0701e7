package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/measure"
)

// The schemes that can be shown.
const (
	schemeDNS      = "dns"
	schemeFrontend = "frontend"
	schemeHybrid   = "hybrid"
)

// The hosts of the frontends. They are no members. With the scheme frontend
// there is the first alone, outside of both sites; with the scheme hybrid one
// stands at each.
const (
	edge   draas.MemberID = "edge1"
	edgeDR draas.MemberID = "edge2"
)

// fronted reports whether users come by frontends.
func (o Options) fronted() bool { return o.Scheme != schemeDNS }

// edgesOf are the frontends of a scheme.
func edgesOf(scheme string) []draas.MemberID {
	switch scheme {
	case schemeFrontend:
		return []draas.MemberID{edge}
	case schemeHybrid:
		return []draas.MemberID{edge, edgeDR}
	}
	return nil
}

// siteOf is the site at which a hybrid's frontend stands; it falls with it.
func siteOf(e draas.MemberID) draas.MemberID {
	if e == edgeDR {
		return dr
	}
	return primary
}

// limit is how long rtotest lets a request take: longer than a frontend may
// hold it.
func (o Options) limit() time.Duration {
	if o.fronted() {
		return holdFor(o.Profile) + 4*time.Second
	}
	return requestLimit
}

// makeEdges issues the frontends' certificates and gives them the file.
func (s *stage) makeEdges(ctx context.Context, file []byte) error {
	cluster := filepath.Join(s.dir, "cluster")
	for _, e := range edgesOf(s.options.Scheme) {
		out, err := exec.CommandContext(ctx, s.options.Draasd, "issue", string(e), "--frontend",
			"--ca", filepath.Join(cluster, "ca"), "--out", filepath.Join(s.home(e), "tls")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("make the certificate of %s: draasd issue: %w: %s", e, err, out)
		}
		if err := os.WriteFile(s.config(e), file, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

func (s *stage) edgeControl(e draas.MemberID) string {
	return filepath.Join(s.home(e), "data", "frontend.sock")
}

// startEdges starts the frontends.
func (s *stage) startEdges() error {
	for _, e := range edgesOf(s.options.Scheme) {
		at := e
		if s.options.Scheme == schemeHybrid {
			at = siteOf(e)
		}
		if err := s.launch(string(e), at, "frontend", "-c", s.config(e)); err != nil {
			return err
		}
	}
	return nil
}

// countEdges takes over what the frontends have counted, of those that live.
func (s *stage) countEdges(ctx context.Context, run *RunResult) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, e := range edgesOf(s.options.Scheme) {
		if !s.crew.lives(string(e)) {
			continue // with what it knew
		}
		if err := s.countEdge(ctx, e, run); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) countEdge(ctx context.Context, e draas.MemberID, run *RunResult) error {
	client := api.Unix(s.edgeControl(e))
	defer client.Close()
	st, err := client.Frontend(ctx)
	if err != nil {
		return err
	}
	for _, sv := range st.Services {
		run.Held, run.Replayed = run.Held+sv.Held, run.Replayed+sv.Replayed
		for _, to := range sv.Sites {
			if sv.Stands != "" && to.Site != sv.Stands {
				run.Forwarded += to.Requests
			}
		}
	}
	return nil
}

// stall is the longest that any user waited for an answer.
func stall(p *measure.Report) measure.Millis {
	longest := p.Latency.Max
	for _, o := range p.Clients {
		longest = max(longest, o.Latency.Max)
	}
	return longest
}
