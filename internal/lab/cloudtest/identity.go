package cloudtest

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/domains"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
)

func identityFacts() map[string]func(*fact) {
	facts := loginFacts()
	maps.Copy(facts, map[string]func(*fact){
		"the id of a domain may be chosen":                        domainID,
		"a domain is deleted only when it is disabled":            domainEnabled,
		"the id of a project is the server's":                     projectID,
		"a project's name is unique in its domain":                projectName,
		"projects carry tags":                                     projectTags,
		"a project with children is not deleted":                  projectTree,
		"users keep fields of others and never show a password":   userExtra,
		"a disabled user cannot log in":                           userDisabled,
		"memberships are put twice, listed and removed once":      memberships,
		"one list has all assignments with their names":           assignments,
		"an inherited role serves the projects below":             inheritedRole,
		"a role implies another":                                  impliedRole,
		"roles of a domain are listed with its id only":           domainRole,
		"deleting a project takes its assignments":                assignmentsGo,
		"who has no role cannot enter a project":                  noRole,
		"a value of the wrong type is refused":                    identityTypes,
		"updates change what they name and nothing else":          partialUpdate,
		"what does not exist is 404, of every kind of Keystone's": identityMissing,
	})
	return facts
}

func (f *fact) newProject(name string) *projects.Project {
	f.Helper()
	p, err := projects.Create(f.ctx, f.Identity, projects.CreateOpts{Name: f.name(name), DomainID: "default"}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return projects.Delete(ctx, f.Identity, p.ID).ExtractErr() })
	return p
}

func (f *fact) newUser(name string) *users.User {
	f.Helper()
	u, err := users.Create(f.ctx, f.Identity, users.CreateOpts{Name: f.name(name), DomainID: "default", Password: "right-" + f.mark}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return users.Delete(ctx, f.Identity, u.ID).ExtractErr() })
	return u
}

func (f *fact) newGroup(name string) *groups.Group {
	f.Helper()
	g, err := groups.Create(f.ctx, f.Identity, groups.CreateOpts{Name: f.name(name), DomainID: "default"}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return groups.Delete(ctx, f.Identity, g.ID).ExtractErr() })
	return g
}

func (f *fact) newRole(name string) *roles.Role {
	f.Helper()
	r, err := roles.Create(f.ctx, f.Identity, roles.CreateOpts{Name: f.name(name)}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return roles.Delete(ctx, f.Identity, r.ID).ExtractErr() })
	return r
}

// role finds a role of the cloud's own by name.
func (f *fact) role(name string) string {
	f.Helper()
	found := list(f, roles.List(f.Identity, roles.ListOpts{Name: name}), roles.ExtractRoles)
	same(f, "roles named "+name, len(found), 1)
	return found[0].ID
}

// enter gives a user the role member in a project.
func (f *fact) enter(user, project string) {
	f.Helper()
	f.ok(roles.Assign(f.ctx, f.Identity, f.role("member"), roles.AssignOpts{UserID: user, ProjectID: project}).ExtractErr())
}

// scoped gives the administrator's clients in a project, for services that
// go by the token's project.
func (f *fact) scoped(project string) *Clients {
	f.Helper()
	f.ok(roles.Assign(f.ctx, f.Identity, f.role("admin"), roles.AssignOpts{UserID: f.User, ProjectID: project}).ExtractErr())
	c, err := f.In(f.ctx, project)
	f.ok(err)
	return c
}

func domainID(f *fact) {
	want := "fac70000000000000000000000" + hexMark(f.mark)
	body, _ := f.call(f.Identity, "POST", "domains", object{"domain": object{"name": f.name("d"), "explicit_domain_id": want, "enabled": false}}, http.StatusCreated)
	f.later(func(ctx context.Context) error { return domains.Delete(ctx, f.Identity, want).ExtractErr() })
	same(f, "the domain's id", text(inner(body, "domain"), "id"), want)
	d, err := domains.Get(f.ctx, f.Identity, want).Extract()
	f.ok(err)
	same(f, "its name", d.Name, f.name("d"))
}

// hexMark makes six hex digits of a mark.
func hexMark(mark string) string {
	out := []byte(mark)[:6]
	for i := range out {
		out[i] = "0123456789abcdef"[out[i]%16]
	}
	return string(out)
}

func domainEnabled(f *fact) {
	d, err := domains.Create(f.ctx, f.Identity, domains.CreateOpts{Name: f.name("d")}).Extract()
	f.ok(err)
	f.refused(domains.Delete(f.ctx, f.Identity, d.ID).ExtractErr(), http.StatusForbidden)
	off := false
	_, err = domains.Update(f.ctx, f.Identity, d.ID, domains.UpdateOpts{Enabled: &off}).Extract()
	f.ok(err)
	f.ok(domains.Delete(f.ctx, f.Identity, d.ID).ExtractErr())
}

func projectID(f *fact) {
	const chosen = "fac7fac7fac7fac7fac7fac7fac7fac7"
	body, _ := f.call(f.Identity, "POST", "projects", object{"project": object{"id": chosen, "name": f.name("p"), "domain_id": "default"}}, http.StatusCreated)
	id := text(inner(body, "project"), "id")
	f.later(func(ctx context.Context) error { return projects.Delete(ctx, f.Identity, id).ExtractErr() })
	if id == chosen || len(id) != 32 {
		f.Fatalf("the project's id is %q", id)
	}
}

func projectName(f *fact) {
	p := f.newProject("p")
	_, err := projects.Create(f.ctx, f.Identity, projects.CreateOpts{Name: p.Name, DomainID: "default"}).Extract()
	f.refused(err, http.StatusConflict)
	same(f, "its parent", p.ParentID, "default")
}

func projectTags(f *fact) {
	p := f.newProject("p")
	_, err := projects.ModifyTags(f.ctx, f.Identity, p.ID, projects.ModifyTagsOpts{Tags: []string{f.mark, "b"}}).Extract()
	f.ok(err)
	tagged := list(f, projects.List(f.Identity, projects.ListOpts{Tags: f.mark}), projects.ExtractProjects)
	same(f, "projects with the tag", len(tagged), 1)
	if !slices.Contains(tagged[0].Tags, "b") {
		f.Fatalf("the listed project has the tags %q", tagged[0].Tags)
	}
	f.ok(projects.DeleteTags(f.ctx, f.Identity, p.ID).ExtractErr())
	same(f, "projects with the tag", len(list(f, projects.List(f.Identity, projects.ListOpts{Tags: f.mark}), projects.ExtractProjects)), 0)
}

func projectTree(f *fact) {
	p := f.newProject("p")
	child, err := projects.Create(f.ctx, f.Identity, projects.CreateOpts{Name: f.name("child"), ParentID: p.ID}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return projects.Delete(ctx, f.Identity, child.ID).ExtractErr() })
	same(f, "the child's domain", child.DomainID, "default")
	f.refused(projects.Delete(f.ctx, f.Identity, p.ID).ExtractErr(), http.StatusForbidden)
}

func userExtra(f *fact) {
	body, _ := f.call(f.Identity, "POST", "users", object{"user": object{"name": f.name("u"), "domain_id": "default", "password": "hidden-" + f.mark,
		"email": "a@example.org", "draas_src": "x1"}}, http.StatusCreated)
	u := inner(body, "user")
	f.later(func(ctx context.Context) error { return users.Delete(ctx, f.Identity, text(u, "id")).ExtractErr() })
	read, err := users.Get(f.ctx, f.Identity, text(u, "id")).Extract()
	f.ok(err)
	same[any](f, "the extra field", read.Extra["draas_src"], "x1")
	same[any](f, "the mail address", read.Extra["email"], "a@example.org")
	if _, shown := u["password"]; shown || read.Extra["password"] != nil {
		f.Fatal("the password can be read")
	}
}

func userDisabled(f *fact) {
	u, p := f.newUser("u"), f.newProject("p")
	f.enter(u.ID, p.ID)
	if _, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID); err != nil {
		f.Fatal(err)
	}
	if _, err := f.As(f.ctx, u.ID, "wrong", p.ID); err == nil {
		f.Fatal("a wrong password opens")
	}
	off := false
	_, err := users.Update(f.ctx, f.Identity, u.ID, users.UpdateOpts{Enabled: &off}).Extract()
	f.ok(err)
	if _, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID); err == nil {
		f.Fatal("a disabled user logs in")
	}
}

func memberships(f *fact) {
	u, g := f.newUser("u"), f.newGroup("g")
	for range 2 {
		f.ok(users.AddToGroup(f.ctx, f.Identity, g.ID, u.ID).ExtractErr())
	}
	in := list(f, users.ListInGroup(f.Identity, g.ID, nil), users.ExtractUsers)
	same(f, "members", len(in), 1)
	same(f, "groups", len(list(f, users.ListGroups(f.Identity, u.ID), groups.ExtractGroups)), 1)
	f.ok(users.RemoveFromGroup(f.ctx, f.Identity, g.ID, u.ID).ExtractErr())
	f.refused(users.RemoveFromGroup(f.ctx, f.Identity, g.ID, u.ID).ExtractErr(), http.StatusNotFound)
}

func (f *fact) assigned(opts roles.ListAssignmentsOpts) []roles.RoleAssignment {
	f.Helper()
	return list(f, roles.ListAssignments(f.Identity, opts), roles.ExtractRoleAssignments)
}

func assignments(f *fact) {
	u, g, p, r := f.newUser("u"), f.newGroup("g"), f.newProject("p"), f.newRole("r")
	for range 2 { // the second time is no conflict
		f.ok(roles.Assign(f.ctx, f.Identity, r.ID, roles.AssignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr())
	}
	f.ok(roles.Assign(f.ctx, f.Identity, r.ID, roles.AssignOpts{GroupID: g.ID, DomainID: "default"}).ExtractErr())
	f.ok(roles.Assign(f.ctx, f.Identity, r.ID, roles.AssignOpts{UserID: u.ID, System: true}).ExtractErr())
	names := true
	all := f.assigned(roles.ListAssignmentsOpts{IncludeNames: &names})
	found := 0
	for _, a := range all {
		if a.Role.ID != r.ID {
			continue
		}
		found++
		same(f, "the role's name", a.Role.Name, r.Name)
		switch {
		case a.Scope.Project.ID != "":
			same(f, "the project's name", a.Scope.Project.Name, p.Name)
			same(f, "the project's domain", a.Scope.Project.Domain.ID, "default")
			same(f, "the user's name", a.User.Name, u.Name)
		case a.Scope.Domain.ID != "":
			same(f, "the group's name", a.Group.Name, g.Name)
		}
	}
	same(f, "assignments of the role", found, 3)
	same(f, "assignments by filter", len(f.assigned(roles.ListAssignmentsOpts{UserID: u.ID, ScopeProjectID: p.ID})), 1)
	f.ok(roles.Unassign(f.ctx, f.Identity, r.ID, roles.UnassignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr())
	f.refused(roles.Unassign(f.ctx, f.Identity, r.ID, roles.UnassignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr(), http.StatusNotFound)
	f.refused(roles.Assign(f.ctx, f.Identity, r.ID, roles.AssignOpts{UserID: u.ID, ProjectID: "fac7"}).ExtractErr(), http.StatusNotFound)
}

func inheritedRole(f *fact) {
	u, p := f.newUser("u"), f.newProject("p")
	path := "OS-INHERIT/projects/" + p.ID + "/users/" + u.ID + "/roles/" + f.role("member") + "/inherited_to_projects"
	f.call(f.Identity, "PUT", path, nil, http.StatusNoContent)
	child, err := projects.Create(f.ctx, f.Identity, projects.CreateOpts{Name: f.name("child"), ParentID: p.ID}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return projects.Delete(ctx, f.Identity, child.ID).ExtractErr() })
	if _, err := f.As(f.ctx, u.ID, "right-"+f.mark, child.ID); err != nil {
		f.Fatal(err)
	}
	if _, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID); err == nil {
		f.Fatal("an inherited role serves the project itself")
	}
	body, _ := f.call(f.Identity, "GET", "role_assignments?user.id="+u.ID, nil, http.StatusOK)
	rows := items(body, "role_assignments")
	same(f, "assignments", len(rows), 1)
	row, _ := rows[0].(object)
	same(f, "how it is inherited", text(inner(row, "scope"), "OS-INHERIT:inherited_to"), "projects")
}

func impliedRole(f *fact) {
	a, b := f.newRole("a"), f.newRole("b")
	_, err := roles.CreateRoleInferenceRule(f.ctx, f.Identity, a.ID, b.ID).Extract()
	f.ok(err)
	rules, err := roles.ListRoleInferenceRules(f.ctx, f.Identity).Extract()
	f.ok(err)
	found := false
	for _, rule := range rules.RoleInferenceRuleList {
		found = found || rule.PriorRole.ID == a.ID && len(rule.ImpliedRoles) == 1 && rule.ImpliedRoles[0].Name == b.Name
	}
	same(f, "the rule is listed", found, true)
	f.ok(roles.DeleteRoleInferenceRule(f.ctx, f.Identity, a.ID, b.ID).ExtractErr())
	f.refused(roles.DeleteRoleInferenceRule(f.ctx, f.Identity, a.ID, b.ID).ExtractErr(), http.StatusNotFound)
}

func domainRole(f *fact) {
	r, err := roles.Create(f.ctx, f.Identity, roles.CreateOpts{Name: f.name("r"), DomainID: "default"}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return roles.Delete(ctx, f.Identity, r.ID).ExtractErr() })
	same(f, "in the list of all", len(list(f, roles.List(f.Identity, roles.ListOpts{Name: r.Name}), roles.ExtractRoles)), 0)
	same(f, "in its domain's", len(list(f, roles.List(f.Identity, roles.ListOpts{Name: r.Name, DomainID: "default"}), roles.ExtractRoles)), 1)
}

func assignmentsGo(f *fact) {
	u, p := f.newUser("u"), f.newProject("p")
	f.enter(u.ID, p.ID)
	f.ok(projects.Delete(f.ctx, f.Identity, p.ID).ExtractErr())
	same(f, "assignments of the user", len(f.assigned(roles.ListAssignmentsOpts{UserID: u.ID})), 0)
}

func noRole(f *fact) {
	u, p := f.newUser("u"), f.newProject("p")
	_, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	if err == nil {
		f.Fatal("a stranger enters")
	}
	f.refused(err, http.StatusUnauthorized)
}

func partialUpdate(f *fact) {
	p := f.newProject("p")
	words := "other words"
	changed, err := projects.Update(f.ctx, f.Identity, p.ID, projects.UpdateOpts{Description: &words}).Extract()
	f.ok(err)
	same(f, "the name", changed.Name, p.Name)
	same(f, "the description", changed.Description, words)
	same(f, "enabled", changed.Enabled, true)
}

func identityMissing(f *fact) {
	for _, many := range []string{"domains", "projects", "users", "groups", "roles"} {
		f.call(f.Identity, "GET", many+"/fac7fac7fac7fac7fac7fac7fac7fac7", nil, http.StatusNotFound)
		f.call(f.Identity, "DELETE", many+"/fac7fac7fac7fac7fac7fac7fac7fac7", nil, http.StatusNotFound)
	}
}

func identityTypes(f *fact) {
	p := f.newProject("p")
	for _, wrong := range []object{{"name": 5}, {"name": ""}, {"enabled": "yes"}, {"tags": "x"}} {
		f.call(f.Identity, "PATCH", "projects/"+p.ID, object{"project": wrong}, http.StatusBadRequest)
	}
	f.call(f.Identity, "POST", "users", object{"user": object{"name": nil, "domain_id": "default"}}, http.StatusBadRequest)
}
