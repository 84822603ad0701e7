package config

import (
	"strconv"
	"strings"

	"github.com/draasd/draas"
)

// Sites lists where the service can be, by name.
func (s *Service) Sites() []draas.SiteID {
	if len(s.CNAME) > 0 {
		return sortedKeys(s.CNAME)
	}
	return sortedKeys(s.Addresses)
}

// TargetFor is the host:port that a vantage's probe of the service at a site
// connects to, or empty when the service is not there.
//
// The site's own member looks from behind the fence, so that it sees the
// service while others serve: at the check's local, else at the path fence's
// forward. Others take probe_via if the file gives one. In all other cases it
// is the first address with the check's port. An exec check has no port: it
// gets the address alone, unless local, forward or probe_via say otherwise.
func (s *Service) TargetFor(k *Check, vantage draas.MemberID, site draas.SiteID) string {
	host := s.host(site)
	if host == "" {
		return ""
	}
	if vantage == site.Member() {
		if k.Local != "" {
			return k.Local
		}
		if forward := s.Fence.Forward[site]; forward != "" {
			return forward
		}
	} else if via := s.ProbeVia[vantage][site]; via != "" {
		return via
	}
	if k.Port == 0 {
		return host
	}
	if strings.Contains(host, ":") { // IPv6
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(k.Port))
}

// host is the first address or the name of the service at a site.
func (s *Service) host(site draas.SiteID) string {
	if a := s.Addresses[site]; len(a) > 0 {
		return a[0].String()
	}
	return strings.TrimSuffix(s.CNAME[site], ".")
}
