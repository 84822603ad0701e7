package matrix

import "time"

// columns are what is set beside each other.
func columns() []column {
	return []column{
		{Name: "dns", Scheme: schemeDNS, Lease: 2 * time.Second},
		{Name: "frontend", Scheme: schemeFrontend, Lease: 2 * time.Second},
		{Name: "dns, metro", Scheme: schemeDNS, Lease: metroLease, Renew: metroRenew, Metro: true},
		{Name: "frontend, metro", Scheme: schemeFrontend, Lease: metroLease, Renew: metroRenew, Metro: true},
	}
}

// The shortest lease that draasd check takes with the fast profile, whose
// elections take 300 ms, between sites some milliseconds apart.
const (
	metroLease = 900 * time.Millisecond
	metroRenew = 120 * time.Millisecond
	metroDrain = 250 * time.Millisecond
)

// meets reports whether a disaster is made to a column.
func (c column) meets(x cell) bool {
	if c.Metro && !x.Headline {
		return false
	}
	return x.Needs == nil || x.Needs(c)
}
