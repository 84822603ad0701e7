package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Copy is a user that draas made.
type Copy struct {
	ID      string `json:"id"`
	Name    string `json:"name"` // with its domain: "default/alice"
	Enabled bool   `json:"enabled"`
	// Waits: the source's is enabled, and this one not because its site stands by.
	Waits bool `json:"waits"`
	// held: what the source's is stands beside it.
	held bool
}

// Copies lists the users of this cloud that draas made.
func (s *Side) Copies(ctx context.Context) ([]Copy, error) {
	domains := make(map[string]string)
	if err := s.pages(ctx, identity, "domains", "domains", nil, func(r row) error {
		domains[r.text("id")] = r.text("name")
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list domains: %w", classify(err))
	}
	var all []Copy
	if err := s.pages(ctx, identity, "users", "users", nil, func(r row) error {
		if parseMarker(r.text(property)).IsZero() {
			return nil
		}
		c := Copy{ID: r.text("id"), Name: domains[r.text("domain_id")] + "/" + r.text("name"), Enabled: r["enabled"] != false}
		var was bool
		was, c.held = r[wasEnabled].(bool)
		c.held = c.held && !c.Enabled
		c.Waits = c.held && was
		all = append(all, c)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list users: %w", classify(err))
	}
	return all, nil
}

// Release lets a copy log in if the source's could, because its site is the
// active one; from then on its being enabled is like any field. It tells
// whether there was anything to do.
func (s *Side) Release(ctx context.Context, c *Copy) (bool, error) {
	if !c.held {
		return false, nil
	}
	body := row{wasEnabled: nil}
	if c.Waits {
		body["enabled"] = true
	}
	if err := s.patchUser(ctx, *c, body); err != nil {
		return false, err
	}
	c.Enabled, c.Waits, c.held = c.Enabled || c.Waits, false, false
	return true, nil
}

// Hold keeps a copy from logging in while its site stands by.
func (s *Side) Hold(ctx context.Context, c *Copy) (bool, error) {
	if c.held {
		return false, nil
	}
	if err := s.patchUser(ctx, *c, row{"enabled": false, wasEnabled: c.Enabled}); err != nil {
		return false, err
	}
	c.Enabled, c.Waits, c.held = false, c.Enabled, true
	return true, nil
}

func (s *Side) patchUser(ctx context.Context, c Copy, body row) error {
	if _, err := s.call(ctx, identity, http.MethodPatch, "users/"+url.PathEscape(c.ID), map[string]any{"user": body}, nil); err != nil {
		return fmt.Errorf("change user %s: %w", c.Name, classify(err))
	}
	return nil
}
