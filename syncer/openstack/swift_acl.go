package openstack

import (
	"strings"

	"github.com/draasd/draas/syncer"
)

// readACL takes a container's list of who may read or write apart, as keystoneauth
// understands it: "PROJECT:USER" with either of them an id or "*", the name of a
// role, and what begins with a dot (".r:*", ".rlistings"). Ids become Refs. They
// are weak: an entry whose project or user the other side lacks is left out
// there, and opens the container to nobody else. The order is kept, for later
// referrers outdo those before.
func readACL(list string) []any {
	out := []any{}
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		project, user, pair := strings.Cut(entry, ":")
		if !pair || project == "" || user == "" || entry[0] == '.' || !isID(project) && !isID(user) {
			out = append(out, entry)
			continue
		}
		out = append(out, map[string]any{"project": granted(Project, project), "user": granted(User, user)})
	}
	return out
}

func granted(kind syncer.Kind, id string) any {
	if !isID(id) {
		return id // "*", or a name, which is the same at both sides
	}
	return syncer.Ref{Key: syncer.Key{Kind: kind, ID: id}, Weak: true}
}

// isID tells ids of Keystone's from names: UUIDs without and with dashes, and
// the 64 digits that users of a directory have.
func isID(text string) bool {
	switch len(text) {
	case 32, 64:
		return strings.Trim(text, "0123456789abcdef") == ""
	case 36:
		return strings.Trim(text, "0123456789abcdef-") == ""
	}
	return false
}

// writeACL is readACL's reverse.
func writeACL(v any) string {
	list, _ := v.([]any)
	var entries []string
	for _, e := range list {
		switch e := e.(type) {
		case string:
			entries = append(entries, e)
		case map[string]any:
			project, _ := write(e["project"]).(string)
			user, _ := write(e["user"]).(string)
			if project != "" && user != "" {
				entries = append(entries, project+":"+user)
			}
		}
	}
	return strings.Join(entries, ",")
}
