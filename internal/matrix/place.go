package matrix

import "fmt"

// The places. Between two of them is the wide area, with its latency; within
// one there is none.
const (
	primary = "primary"
	dr      = "dr"
	witness = "witness"
	edge    = "edge"    // where frontends stand that are at no site
	outside = "outside" // where users are, and their resolver
)

// numberOf is the place's in its addresses: 10.91.N.0/24, and 10.91.(10+N).0/24
// behind the member's machine, where the service stands.
var numberOf = map[string]int{primary: 1, dr: 2, witness: 3, edge: 4, outside: 9}

var (
	places  = []string{primary, dr, witness, edge, outside}
	sites   = []string{primary, dr}
	members = []string{primary, dr, witness}
)

// Hosts of a place.
const (
	hostRouter   = 1
	hostMember   = 10
	hostFirst    = 11  // the edge's frontends
	hostSecond   = 12  //
	hostFrontend = 30  // a site's own frontend
	hostResolver = 53  //
	hostNamed    = 54  // a name server outside, of columns that have one
	hostCloud    = 60  // a site's cloud
	hostVIP      = 100 // the pair's virtual address
	hostNear     = 110 // users beside a site
	hostService  = 20  // behind the member
	behind       = 10  // how much farther the place's inner network is
)

func address(place string, host int) string {
	return fmt.Sprintf("10.91.%d.%d", numberOf[place], host)
}

// serviceAddress is where a site's service is reached.
func serviceAddress(site string) string {
	return fmt.Sprintf("10.91.%d.%d", behind+numberOf[site], hostService)
}

// prefixes are the networks of a place.
func prefixes(place string) []string {
	outer := fmt.Sprintf("10.91.%d.0/24", numberOf[place])
	if place == primary || place == dr {
		return []string{outer, inner(place)}
	}
	return []string{outer}
}

func inner(site string) string { return fmt.Sprintf("10.91.%d.0/24", behind+numberOf[site]) }

// The ports.
const (
	peerPort    = 7400
	apiPort     = 7401
	dnsPort     = 53
	webPort     = 8080 // the service, fenced, and users at a frontend
	replicaPort = 9090 // from the one site's service to the other's
	cloudPort   = 5000 // all services of a site's cloud
)

// The machines. A site has two: its member's, behind which its service's
// stands, so that either can be lost alone.
const (
	users    = "users"
	resolver = "resolver"
	named    = "named"
	edge1    = "edge1"
	edge2    = "edge2"
)

func serviceHost(site string) string  { return site + "-svc" }
func frontendHost(site string) string { return site + "-fe" }
func cloudHost(site string) string    { return site + "-cloud" }
func nearHost(site string) string     { return "near-" + site }
