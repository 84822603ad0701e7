package config

import "time"

// Profile is a set of defaults: how much patience against how much downtime.
type Profile struct {
	Name       string
	Interval   time.Duration // of checks
	Timeout    time.Duration // of checks
	SecondLook time.Duration // pause before looking again after a refusal
	Rise, Fall int
	Jitter     float64
	Confirm    time.Duration // the verdict must last this long
	Lease      time.Duration
	Renew      time.Duration
	Heartbeat  time.Duration // of the replicated log
	Election   time.Duration
	Hold       time.Duration // no further automatic move after a completed unplanned one
	Flaps      int           // failures after which a site is no target
	Steady     time.Duration // one of them is forgotten for each of these without another
	// VIPLease is that of virtual IPs. It stands in the digest with each of them,
	// so that files without any keep theirs.
	VIPLease time.Duration `json:"-"`
}

// Profiles lists the profiles, the most patient and default one first.
func Profiles() []Profile {
	return []Profile{{
		Name:     "cautious",
		Interval: 2 * time.Second, Timeout: 1500 * time.Millisecond, SecondLook: 200 * time.Millisecond,
		Rise: 2, Fall: 3, Jitter: 0.1, Confirm: 5 * time.Second,
		Lease: 10 * time.Second, Renew: 2 * time.Second,
		Heartbeat: 100 * time.Millisecond, Election: time.Second, Hold: 10 * time.Minute,
		Flaps: 3, Steady: 30 * time.Minute, VIPLease: 3 * time.Second,
	}, {
		Name:     "balanced",
		Interval: time.Second, Timeout: 800 * time.Millisecond, SecondLook: 100 * time.Millisecond,
		Rise: 2, Fall: 3, Jitter: 0.1, Confirm: time.Second,
		Lease: 4 * time.Second, Renew: 800 * time.Millisecond,
		Heartbeat: 100 * time.Millisecond, Election: 600 * time.Millisecond, Hold: 5 * time.Minute,
		Flaps: 3, Steady: 10 * time.Minute, VIPLease: time.Second,
	}, {
		Name:     "fast",
		Interval: 250 * time.Millisecond, Timeout: 200 * time.Millisecond, SecondLook: 15 * time.Millisecond,
		Rise: 2, Fall: 4, Jitter: 0.1, Confirm: 0,
		Lease: 2 * time.Second, Renew: 400 * time.Millisecond,
		Heartbeat: 50 * time.Millisecond, Election: 300 * time.Millisecond, Hold: time.Minute,
		Flaps: 5, Steady: 2 * time.Minute, VIPLease: 250 * time.Millisecond,
	}, {
		// For members at most 5 ms apart, on disks that sync within 50 ms.
		Name:     "metro",
		Interval: 100 * time.Millisecond, Timeout: 80 * time.Millisecond, SecondLook: 10 * time.Millisecond,
		Rise: 2, Fall: 4, Jitter: 0.1, Confirm: 0,
		Lease: 600 * time.Millisecond, Renew: 100 * time.Millisecond,
		Heartbeat: 20 * time.Millisecond, Election: 120 * time.Millisecond, Hold: time.Minute,
		Flaps: 5, Steady: 2 * time.Minute, VIPLease: 250 * time.Millisecond,
	}}
}

// profile finds a profile, or the default one.
func profile(name string) Profile {
	all := Profiles()
	for _, p := range all {
		if p.Name == name {
			return p
		}
	}
	return all[0]
}

func profileNames() []string {
	var names []string
	for _, p := range Profiles() {
		names = append(names, p.Name)
	}
	return names
}
