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
)

// edge is the host of the frontend, outside of both sites. It is no member.
const edge draas.MemberID = "edge1"

// limit is how long rtotest lets a request take: longer than a frontend may
// hold it.
func (o Options) limit() time.Duration {
	if o.Scheme == schemeFrontend {
		return holdFor(o.Profile) + 4*time.Second
	}
	return requestLimit
}

// makeEdge issues the frontend's certificate and gives it the file.
func (s *stage) makeEdge(ctx context.Context, file []byte) error {
	cluster := filepath.Join(s.dir, "cluster")
	out, err := exec.CommandContext(ctx, s.options.Draasd, "issue", string(edge), "--frontend",
		"--ca", filepath.Join(cluster, "ca"), "--out", filepath.Join(s.home(edge), "tls")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the frontend's certificate: draasd issue: %w: %s", err, out)
	}
	if err := os.WriteFile(s.config(edge), file, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (s *stage) edgeControl() string { return filepath.Join(s.home(edge), "data", "frontend.sock") }

// startEdge starts the frontend.
func (s *stage) startEdge() error {
	return s.launch(string(edge), edge, "frontend", "-c", s.config(edge))
}

// countEdge takes over what the frontend has counted.
func (s *stage) countEdge(ctx context.Context, run *RunResult) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := api.Unix(s.edgeControl())
	defer client.Close()
	st, err := client.Frontend(ctx)
	if err != nil {
		return err
	}
	for _, sv := range st.Services {
		run.Held, run.Replayed = run.Held+sv.Held, run.Replayed+sv.Replayed
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
