package config

import (
	"slices"
	"strings"
	"time"
)

// kind is the type of a value in the file. Its text stands in docs/config.md.
type kind string

const (
	kindName     kind = "name"              // of the cluster, a failure domain
	kindSite     kind = "member"            // the name of a member
	kindZone     kind = "zone"              // the name of a [dns.*] table
	kindChoice   kind = "choice"            // one of Key.oneOf
	kindDuration kind = "duration"          // a Go duration between Key.min and Key.max
	kindTTL      kind = "whole seconds"     // a duration that DNS can carry
	kindCount    kind = "number"            // an integer between Key.low and Key.high
	kindPart     kind = "fraction"          // a float between 0 and 0.5
	kindBool     kind = "true or false"     //
	kindFile     kind = "path"              // of a file or socket
	kindKeyFile  kind = "path (secret)"     // of a file whose contents are never shown
	kindListen   kind = "IP:port to listen" // the IP may be missing: any
	kindDial     kind = "IP:port"           // where another member connects to
	kindDials    kind = "list of IP:port"   //
	kindTarget   kind = "host:port"         // where a probe or relay connects to
	kindAddrs    kind = "list of IPs"       //
	kindURL      kind = "https URL"         //
	kindID       kind = "id"                // as a DNS service gave it
	kindZones    kind = "list of zones"     // the names of [dns.*] tables
	kindNets     kind = "list of networks"  //
	kindDomain   kind = "DNS name"          // fully qualified, with the final dot
	kindHost     kind = "host"              // a DNS name without the final dot, or an IP
	kindURLPath  kind = "URL path"          //
	kindRegexp   kind = "regexp"            // RE2
	kindStatus   kind = "list of statuses"  // HTTP
	kindPorts    kind = "list of ports"     //
	kindTexts    kind = "list of texts"     //
	kindCommand  kind = "command"           // a list: absolute path, arguments
	kindUnit     kind = "unit"              // of systemd
	kindNames    kind = "list of services"  //
	kindLinks    kind = "list of interfaces"
	kindBMC      kind = "IP or IP:port" // of a management controller; the port is 623 by default
	kindUser     kind = "user name"     // at a management controller

	kindSize        kind = "size"                      // in bytes, between Key.low and Key.high
	kindSocket      kind = "path or IP:port"           // of a runtime socket
	kindListens     kind = "list of IP:port to listen" //
	kindFrontends   kind = "list of frontends"         // the names of [frontend.*] tables
	kindServerNames kind = "list of host names"        // exact, or "*." and a name
	kindRoutes      kind = "list of routes"            // a method and a path
	kindHeld        kind = "list of held addresses"    // "192.0.2.80/24 dev eth0"

	kindCron    kind = "cron expression" // five fields, or @daily
	kindTime    kind = "time of the day" // "22:00"
	kindKinds   kind = "list of kinds"   // of objects of a cloud
	kindChoices kind = "list of choices" // each one of Key.oneOf
	kindText    kind = "text"            // a name that others gave
)

// key describes one key of the file. A path's component * stands for a name
// that the user chooses, [] for the elements of an array of tables.
type key struct {
	path     string
	kind     kind
	def      string // the default as docs/config.md prints it; "required", "-" for none
	oneOf    []string
	min, max time.Duration
	low      int64
	high     int64
}

// dur is a key of kind duration with its bounds.
func dur(path, def string, lo, hi time.Duration) key {
	return key{path: path, kind: kindDuration, def: def, min: lo, max: hi}
}

const perProfile = "by profile"

// schema lists every key there is.
func schema() []key {
	return slices.Concat([]key{
		{path: "cluster", kind: kindName, def: "required"},
		{path: "profile", kind: kindChoice, def: "cautious", oneOf: profileNames()},
		{path: "data", kind: kindFile, def: "data"},
		{path: "control", kind: kindFile, def: "draasd.sock in data"},
		{path: "guard", kind: kindFile, def: "guard.sock in data"},
		{path: "tls.ca", kind: kindFile, def: "required"},
		{path: "tls.cert", kind: kindFile, def: "required"},
		{path: "tls.key", kind: kindKeyFile, def: "required"},
		dur("tls.warn", "720h", time.Hour, 365*24*time.Hour),
		{path: "two_site", kind: kindBool, def: "false"},
		{path: "watchdog.device", kind: kindFile, def: "required"},
		{path: "watchdog.timeout", kind: kindTTL, def: "10s", min: time.Second, max: 5 * time.Minute},
		{path: "pager.command", kind: kindCommand, def: "required"},
		dur("pager.timeout", "30s", time.Second, 10*time.Minute),

		{path: "member.*.role", kind: kindChoice, def: "required", oneOf: []string{"site", "witness"}},
		{path: "member.*.domain", kind: kindName, def: "the member's name"},
		{path: "member.*.peer", kind: kindDial, def: "required"},
		{path: "member.*.listen_peer", kind: kindListen, def: "peer"},
		{path: "member.*.api", kind: kindDial, def: "-"},
		{path: "member.*.dns", kind: kindListen, def: "-"},
		{path: "member.*.metrics", kind: kindListen, def: "-"},
		{path: "member.*.peer_from.*", kind: kindDial, def: "peer"},
		{path: "member.*.api_from.*", kind: kindDial, def: "api"},

		{path: "dns.*.provider", kind: kindChoice, def: "required", oneOf: append([]string{ProviderEmbedded, ProviderRFC2136}, hostedProviders()...)},
		{path: "dns.*.zone", kind: kindDomain, def: "required"},
		{path: "dns.*.primary", kind: kindDial, def: "required for rfc2136"},
		{path: "dns.*.domain", kind: kindName, def: "required for rfc2136 and designate"},
		{path: "dns.*.key_file", kind: kindKeyFile, def: "required for rfc2136"},
		{path: "dns.*.transfer_from", kind: kindNets, def: "the secondaries; with a key anywhere"},
		{path: "dns.*.revision", kind: kindCount, def: "0", low: 0, high: 65535},
		dur("dns.*.refresh", "1m with secondaries", time.Second, 24*time.Hour),
		dur("dns.*.expire", "24h with secondaries", time.Minute, 1000*time.Hour),
		{path: "dns.*.zone_file", kind: kindFile, def: "-"},
		{path: "dns.*.dnssec_keys", kind: kindFile, def: "-"},
		dur("dns.*.signatures", "168h with keys", time.Hour, 90*24*time.Hour),
		{path: "dns.*.secondaries", kind: kindDials, def: "-"},
		dur("dns.*.secondary_lag", "5s with secondaries", 10*time.Millisecond, 10*time.Minute),
		{path: "dns.*.tcp", kind: kindBool, def: "false"},
		{path: "dns.*.moves_per_hour", kind: kindCount, def: "30", low: 1, high: 100000},
		dur("dns.*.observe", "30s, at a DNS service 5m", 100*time.Millisecond, 24*time.Hour),
		{path: "dns.*.credentials_file", kind: kindKeyFile, def: "required for a DNS service"},
		{path: "dns.*.zone_id", kind: kindID, def: "required for route53 and cloudflare"},
		{path: "dns.*.endpoint", kind: kindURL, def: "required for dyndns2"},
		{path: "dns.*.ca", kind: kindFile, def: "the system's roots"},
		{path: "dns.*.cloud", kind: kindID, def: "required for designate"},
		{path: "dns.*.region", kind: kindID, def: "the cloud's, or us-east-1"},
		{path: "dns.*.authorities", kind: kindDials, def: "required for a DNS service"},
		dur("dns.*.lag", "cloudflare 10s, designate 30s, else 1m", 10*time.Millisecond, 30*time.Minute),
		dur("dns.*.late", "5s", 0, 10*time.Minute),
		{path: "dns.*.contact", kind: kindDomain, def: "hostmaster in zone"},
		{path: "dns.*.ns.*", kind: kindDomain, def: "required for embedded"},
		{path: "dns.*.ns_address.*", kind: kindAddrs, def: "required for ns names in the zone"},
		{path: "dns.*.negative_ttl", kind: kindTTL, def: "5s", min: time.Second, max: 3 * time.Hour},
		dur("dns.*.stale", "30s", 0, time.Hour),
		{path: "dns.*.record[].name", kind: kindDomain, def: "required"},
		{path: "dns.*.record[].type", kind: kindChoice, def: "required", oneOf: []string{"A", "AAAA", "CNAME", "TXT", "NS"}},
		{path: "dns.*.record[].value", kind: kindTexts, def: "required"},
		{path: "dns.*.record[].ttl", kind: kindTTL, def: "60s", min: time.Second, max: 7 * 24 * time.Hour},
		{path: "group.*.services", kind: kindNames, def: "required"},
	}, policyKeys("group.*."), policyKeys("service.*."), serviceKeys(), fenceKeys(), frontendKeys(), vipKeys(), syncKeys())
}

// policyKeys are those of a move: of a group, or of a service in none.
func policyKeys(at string) []key {
	return []key{
		{path: at + "home", kind: kindSite, def: "required"},
		{path: at + "automatic", kind: kindBool, def: "false"},
		{path: at + "confirmations", kind: kindCount, def: "majority of the domains", low: 2, high: 15},
		dur(at+"max_rto", "-", 100*time.Millisecond, 24*time.Hour),
		dur(at+"lease", perProfile, 500*time.Millisecond, 10*time.Minute),
		dur(at+"renew", perProfile, 50*time.Millisecond, 5*time.Minute),
		dur(at+"confirm", perProfile, 0, time.Hour),
		dur(at+"least_outage", "0s", 0, 24*time.Hour),
		dur(at+"restart", "0s", 0, 24*time.Hour),
		dur(at+"hold", perProfile, 0, 7*24*time.Hour),
		dur(at+"hold_max", "24h, or hold if longer", 0, 30*24*time.Hour),
		{path: at + "flaps", kind: kindCount, def: perProfile, low: 0, high: 100},
		dur(at+"steady", perProfile, time.Second, 7*24*time.Hour),
		dur(at+"max_data_loss", "-", time.Second, 30*24*time.Hour),
		{path: at + "on_lease_loss", kind: kindChoice, def: "fence", oneOf: []string{"fence", "serve"}},
	}
}

func serviceKeys() []key {
	return []key{
		{path: "service.*.scheme", kind: kindChoice, def: "required", oneOf: []string{SchemeDNS, SchemeFrontend, SchemeHybrid}},
		{path: "service.*.address.*", kind: kindAddrs, def: "required, or cname"},
		{path: "service.*.cname.*", kind: kindDomain, def: "-"},
		{path: "service.*.probe_via.*.*", kind: kindTarget, def: "-"},

		{path: "service.*.check[].type", kind: kindChoice, def: "required", oneOf: []string{"tcp", "http", "https", "dns", "exec"}},
		{path: "service.*.check[].port", kind: kindCount, def: "http 80, https 443, dns 53", low: 1, high: 65535},
		{path: "service.*.check[].path", kind: kindURLPath, def: "/"},
		{path: "service.*.check[].host", kind: kindHost, def: "first address"},
		{path: "service.*.check[].status", kind: kindStatus, def: "200 to 399"},
		{path: "service.*.check[].body", kind: kindRegexp, def: "-"},
		dur("service.*.check[].expiry", "-", time.Minute, 365*24*time.Hour),
		{path: "service.*.check[].ca", kind: kindFile, def: "the system's roots"},
		{path: "service.*.check[].insecure", kind: kindBool, def: "false"},
		{path: "service.*.check[].name", kind: kindDomain, def: "required for dns"},
		{path: "service.*.check[].qtype", kind: kindChoice, def: "A", oneOf: []string{"A", "AAAA", "CNAME", "TXT", "NS", "SOA", "MX"}},
		{path: "service.*.check[].expect", kind: kindTexts, def: "-"},
		{path: "service.*.check[].command", kind: kindCommand, def: "required for exec"},
		{path: "service.*.check[].local", kind: kindTarget, def: "forward, or first address"},
		dur("service.*.check[].interval", perProfile, 10*time.Millisecond, 10*time.Minute),
		dur("service.*.check[].timeout", perProfile, 5*time.Millisecond, 10*time.Minute),
		{path: "service.*.check[].rise", kind: kindCount, def: perProfile, low: 1, high: 100},
		{path: "service.*.check[].fall", kind: kindCount, def: perProfile, low: 1, high: 100},
		{path: "service.*.check[].jitter", kind: kindPart, def: "0.1"},

		{path: "service.*.dns.use", kind: kindZone, def: "required"},
		{path: "service.*.dns.also", kind: kindZones, def: "-"},
		{path: "service.*.dns.name", kind: kindDomain, def: "required"},
		{path: "service.*.dns.enter.*", kind: kindAddrs, def: "required for hybrid"},
		{path: "service.*.dns.ttl", kind: kindTTL, def: "5s", min: time.Second, max: 24 * time.Hour},
		dur("service.*.dns.resolver_floor", "0s", 0, 24*time.Hour),

		{path: "service.*.lag.command", kind: kindCommand, def: "required"},
		dur("service.*.lag.interval", "10s", 100*time.Millisecond, time.Hour),
		dur("service.*.lag.timeout", "5s, or interval if shorter", 10*time.Millisecond, time.Hour),
	}
}

func fenceKeys() []key {
	return []key{
		{path: "service.*.fence.kind", kind: kindChoice, def: "none", oneOf: []string{"path", "exec", "systemd", "kernel", "device", "none"}},
		dur("service.*.fence.margin", "path and kernel 150ms, exec and systemd 1s or the watchdog's timeout", 10*time.Millisecond, 5*time.Minute),
		{path: "service.*.fence.listen.*", kind: kindListen, def: "required for path"},
		{path: "service.*.fence.forward.*", kind: kindTarget, def: "required for path"},
		{path: "service.*.fence.close", kind: kindCommand, def: "required for exec"},
		{path: "service.*.fence.open", kind: kindCommand, def: "required for exec"},
		{path: "service.*.fence.check", kind: kindCommand, def: "required for exec"},
		{path: "service.*.fence.unit", kind: kindUnit, def: "required for systemd"},
		{path: "service.*.fence.ports", kind: kindPorts, def: "required for kernel"},
		{path: "service.*.fence.proto", kind: kindChoice, def: "tcp", oneOf: []string{"tcp", "udp", "both"}},
		{path: "service.*.fence.protect", kind: kindAddrs, def: "every address"},
		{path: "service.*.fence.xdp", kind: kindLinks, def: "-"},
		{path: "service.*.fence.device[].site", kind: kindSite, def: "required"},
		{path: "service.*.fence.device[].kind", kind: kindChoice, def: "required", oneOf: []string{"exec", "ipmi"}},
		{path: "service.*.fence.device[].off", kind: kindCommand, def: "required for exec"},
		{path: "service.*.fence.device[].status", kind: kindCommand, def: "required for exec"},
		{path: "service.*.fence.device[].address", kind: kindBMC, def: "required for ipmi"},
		{path: "service.*.fence.device[].user", kind: kindUser, def: "required for ipmi"},
		{path: "service.*.fence.device[].password_file", kind: kindKeyFile, def: "required for ipmi"},
		{path: "service.*.fence.device[].cipher", kind: kindCount, def: "17", low: 3, high: 17},
		dur("service.*.fence.device[].timeout", "30s", time.Second, 10*time.Minute),
		dur("service.*.fence.device[].stay", "5s", 0, 10*time.Minute),
	}
}

// frontendKeys are those of the frontends, and of the services that they lead
// users to.
func frontendKeys() []key {
	size := func(path, def string, low, high int64) key {
		return key{path: path, kind: kindSize, def: def, low: low, high: high}
	}
	return []key{
		{path: "frontend.*.kind", kind: kindChoice, def: "embedded", oneOf: frontendKinds()},
		{path: "frontend.*.member", kind: kindSite, def: "-"},
		{path: "frontend.*.domain", kind: kindName, def: "its member's or site's"},
		{path: "frontend.*.site", kind: kindSite, def: "its member, if that is a site"},
		{path: "frontend.*.control", kind: kindFile, def: "frontend.sock in data"},
		{path: "frontend.*.access_log", kind: kindFile, def: "-"},
		{path: "frontend.*.socket", kind: kindSocket, def: "required for haproxy"},
		{path: "frontend.*.master", kind: kindSocket, def: "-"},
		{path: "frontend.*.include", kind: kindFile, def: "required for nginx"},
		{path: "frontend.*.test", kind: kindCommand, def: "/usr/sbin/nginx -t"},
		{path: "frontend.*.reload", kind: kindCommand, def: "/usr/sbin/nginx -s reload"},

		{path: "service.*.frontend.use", kind: kindFrontends, def: "all frontends"},
		{path: "service.*.frontend.mode", kind: kindChoice, def: "tcp", oneOf: []string{ModeTCP, ModeHTTP}},
		{path: "service.*.frontend.listen", kind: kindListens, def: "required for embedded and nat"},
		{path: "service.*.frontend.listen_at.*", kind: kindListens, def: "listen"},
		{path: "service.*.frontend.names", kind: kindServerNames, def: "all that nobody else names"},
		{path: "service.*.frontend.server.*", kind: kindDials, def: "required"},
		dur("service.*.frontend.hold", "5s", 0, 10*time.Minute),
		{path: "service.*.frontend.hold_requests", kind: kindCount, def: "1000", low: 1, high: 1_000_000},
		size("service.*.frontend.hold_bytes", "64MiB", 1<<12, 1<<36),
		dur("service.*.frontend.drain", "1s, or half of hold or of the permit's rest if shorter", 0, 5*time.Minute),
		dur("service.*.frontend.silent", "it adapts, tcp 250ms", time.Millisecond, 10*time.Minute),
		dur("service.*.frontend.connect_timeout", "1s", 10*time.Millisecond, time.Minute),
		dur("service.*.frontend.idle_timeout", "60s, tcp 1h", time.Second, 24*time.Hour),
		{path: "service.*.frontend.connections", kind: kindCount, def: "10000", low: 1, high: 10_000_000},
		{path: "service.*.frontend.per_source", kind: kindCount, def: "no limit", low: 1, high: 10_000_000},
		{path: "service.*.frontend.sources", kind: kindNets, def: "everybody"},
		{path: "service.*.frontend.proxy_from", kind: kindNets, def: "-"},
		{path: "service.*.frontend.proxy_to", kind: kindCount, def: "0", low: 0, high: 2},
		{path: "service.*.frontend.affinity", kind: kindChoice, def: "none", oneOf: []string{AffinityNone, AffinitySource, AffinityCookie}},
		{path: "service.*.frontend.shadow", kind: kindDial, def: "-"},
		{path: "service.*.frontend.certificate", kind: kindFile, def: "-"},
		{path: "service.*.frontend.key", kind: kindKeyFile, def: "required with certificate"},
		{path: "service.*.frontend.replay", kind: kindRoutes, def: "-"},
		{path: "service.*.frontend.trusted", kind: kindNets, def: "nobody"},
		size("service.*.frontend.max_body", "no limit", 1, 1<<44),
	}
}

// instead are keys that one may think of, and what to write for them.
func instead() map[string]string {
	return map[string]string{
		"dns.*.servers":    "the server that takes updates is primary, the others are secondaries",
		"dns.*.tsig_file":  "write key_file",
		"service.*.group":  "the group names its services: begin with a line [group.NAME] and list it in services",
		"service.*.server": "the servers that a frontend leads to belong to [service.NAME.frontend]",
		"service.*.device": "devices belong to the fence: begin with a line [[service.NAME.fence.device]]",
	}
}

// node is the schema as a tree: a table has children, any for names that the
// user chooses, or list for an array of tables; a leaf has a key.
type node struct {
	path     string // with * and []
	key      *key
	children map[string]*node
	any      *node
	list     *node
}

// tree builds the tree of all keys.
func tree() *node {
	root := &node{}
	for _, k := range schema() {
		n := root
		for _, part := range strings.Split(k.path, ".") {
			name, list := strings.CutSuffix(part, "[]")
			n = n.child(name)
			if list {
				if n.list == nil {
					n.list = &node{path: n.path + "[]"}
				}
				n = n.list
			}
		}
		n.key = &k
	}
	return root
}

// child finds or makes the node below n.
func (n *node) child(name string) *node {
	path := strings.TrimPrefix(n.path+"."+name, ".")
	if name == "*" {
		if n.any == nil {
			n.any = &node{path: path}
		}
		return n.any
	}
	if n.children == nil {
		n.children = map[string]*node{}
	}
	if n.children[name] == nil {
		n.children[name] = &node{path: path}
	}
	return n.children[name]
}

// names lists the fixed keys below n, sorted.
func (n *node) names() []string {
	var names []string
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
