package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/draasd/draas/syncer"
)

// serverGroups bear nothing that could be a marker, and belong to the project
// whose token makes them.
type serverGroups struct{}

func (serverGroups) traits() syncer.Traits {
	return syncer.Traits{Kind: ServerGroup, Fixed: []string{"name", "policy", "rules", "project"}}
}

func (serverGroups) service() string { return nova.service }

func serverGroup(s *Side, r row) syncer.Object {
	project := r.text("project_id")
	ref := syncer.Ref{Key: syncer.Key{Kind: Project, ID: project}}
	rules := map[string]any(r.row("rules"))
	if rules == nil {
		rules = map[string]any{}
	}
	return syncer.Object{
		Key: syncer.Key{Kind: ServerGroup, ID: r.text("id")}, Name: s.inProject(project, r.text("name")), Project: project, Revision: "made",
		Natural: []any{ref, r.text("name")},
		Fields:  syncer.Fields{"name": r.text("name"), "policy": r.text("policy"), "rules": rules, "project": ref},
	}
}

// list: Nova gives no links for these, and pages by an offset.
func (serverGroups) list(ctx context.Context, s *Side, _ syncer.Key, each func(syncer.Object) error) error {
	for offset := 0; ; {
		query := url.Values{"all_projects": {"True"}, "limit": {strconv.Itoa(pageSize)}, "offset": {strconv.Itoa(offset)}}
		var page row
		if _, err := s.call(ctx, nova, http.MethodGet, "os-server-groups?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		rows := page.rows("server_groups")
		for _, r := range rows {
			if err := each(serverGroup(s, r)); err != nil {
				return err
			}
		}
		if len(rows) == 0 {
			return nil
		}
		offset += len(rows)
	}
}

func (serverGroups) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	var answer map[string]row
	if _, err := s.call(ctx, nova, http.MethodGet, "os-server-groups/"+url.PathEscape(o.ID), nil, &answer); err != nil {
		return syncer.Object{}, err
	}
	if answer["server_group"].text("id") != o.ID {
		return syncer.Object{}, fmt.Errorf("the answer is not server group %s", o.ID)
	}
	return serverGroup(s, answer["server_group"]), nil
}

func (g serverGroups) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	natural := syncer.NaturalKey(ServerGroup, want.Natural)
	found := syncer.Object{}
	err := g.list(ctx, s, syncer.Key{}, func(o syncer.Object) error {
		if syncer.NaturalKey(ServerGroup, o.Natural) == natural {
			found = o
		}
		return nil
	})
	if err == nil && found.ID == "" {
		err = syncer.ErrGone
	}
	return found, err
}

func (serverGroups) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	project, _ := want.Fields["project"].(syncer.Ref)
	body := row{"name": want.Fields["name"], "policy": want.Fields["policy"]}
	if rules := asMap(want.Fields["rules"]); len(rules) > 0 {
		body["rules"] = rules
	}
	var answer map[string]row
	if err := s.callIn(ctx, project.ID, nova, http.MethodPost, "os-server-groups", map[string]any{"server_group": body}, &answer); err != nil {
		return syncer.Object{}, err
	}
	if answer["server_group"].text("id") == "" {
		return syncer.Object{}, &syncer.Uncertain{Err: errors.New("the answer has no id")}
	}
	return serverGroup(s, answer["server_group"]), nil
}

func (g serverGroups) update(ctx context.Context, s *Side, have, _ syncer.Object, _ []string, _ io.Reader) (syncer.Object, error) {
	return g.read(ctx, s, have) // nothing of it can be changed
}

func (serverGroups) remove(ctx context.Context, s *Side, have syncer.Object) error {
	return s.callIn(ctx, have.Project, nova, http.MethodDelete, "os-server-groups/"+url.PathEscape(have.ID), nil, nil)
}

// callIn is call with a token of the project's.
func (s *Side) callIn(ctx context.Context, project string, h api, method, path string, in, out any) error {
	session, err := s.session.As(ctx, project)
	if err != nil {
		return err
	}
	c, err := session.Service(h.service)
	if err != nil {
		return err
	}
	_, err = call(ctx, c, h, method, path, nil, in, out)
	return err
}
