package openstack

import (
	"strings"

	"github.com/draasd/draas/syncer"
)

// property is the name of the marker where a service keeps properties of any
// name.
const property = "draas_source"

// specKey is its name among extra specs: with a scope of its own, which
// schedulers pass over.
const specKey = "draas:source"

// markerPrefix is that of a marker which is a word of its own: a tag, or a
// description until the tag is set.
const markerPrefix = "draas:"

// markerText has at most 60 characters where the ID is a UUID: Neutron's tags have
// no more, markerPrefix included.
func markerText(m syncer.Marker) string { return syncer.SiteWord(m.Site) + "/" + m.ID }

// parseMarker reads what markerText wrote; what it cannot read is no marker.
func parseMarker(text string) syncer.Marker {
	site, id, ok := strings.Cut(text, "/")
	if !ok || site == "" || id == "" {
		return syncer.Marker{}
	}
	return syncer.Marker{Site: site, ID: id}
}

// splitTags takes the marker out of an object's tags.
func splitTags(tags []string) (own []string, m syncer.Marker) {
	for _, tag := range tags {
		text, ours := strings.CutPrefix(tag, markerPrefix)
		if ours && m.IsZero() {
			m = parseMarker(text)
		}
		if !ours {
			own = append(own, tag)
		}
	}
	return own, m
}
