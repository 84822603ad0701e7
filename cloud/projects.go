package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gophercloud/gophercloud/v2"
)

// projects are the sessions in other projects, the latest used last.
type projects struct {
	mu   sync.Mutex
	most int
	all  []*project
}

// project is a session that is there when done is closed.
type project struct {
	id   string
	done chan struct{}
	s    *Session
	err  error
}

// As is the session in another project, by the same credentials: an admin's, as
// a rule. It shares transport, limits and counters. A few are kept; others are
// logged in to anew. It has no Close of its own to be called.
func (s *Session) As(ctx context.Context, projectID string) (*Session, error) {
	root := s.site.root
	if projectID == "" {
		return nil, errors.New("as which project?")
	}
	if projectID == root.Identity().ProjectID {
		return root, nil
	}
	if a := root.auth; a.ApplicationCredentialSecret != "" || a.Scope != nil && a.Scope.TrustID != "" {
		return nil, fmt.Errorf("cloud %s: as project %s: %w", s.site.cloud.Name, projectID, ErrOneProject)
	}
	for {
		p, mine := s.site.projects.of(projectID)
		if mine {
			auth := s.site.cloud.Auth()
			auth.Scope = &gophercloud.AuthScope{ProjectID: projectID}
			auth.TenantID, auth.TenantName = "", ""
			p.s, p.err = s.site.login(ctx, auth)
			if p.err != nil {
				s.site.projects.drop(p)
			}
			close(p.done)
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case p.err == nil:
			return p.s, nil
		case !mine && ctx.Err() == nil && isContext(p.err):
			continue // it was the other's time that was over, not ours
		}
		return nil, fmt.Errorf("cloud %s: as project %s: %w", s.site.cloud.Name, projectID, p.err)
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// of is the project's place, which is the caller's to fill if it is new.
func (c *projects) of(id string) (p *project, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.all {
		if p.id == id {
			c.all = append(append(c.all[:i], c.all[i+1:]...), p)
			return p, false
		}
	}
	p = &project{id: id, done: make(chan struct{})}
	c.all = append(c.all, p)
	if len(c.all) > c.most {
		c.all[0] = nil
		c.all = c.all[1:]
	}
	return p, true
}

// drop forgets a login that failed.
func (c *projects) drop(gone *project) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.all {
		if p == gone {
			c.all = append(c.all[:i], c.all[i+1:]...)
			return
		}
	}
}
