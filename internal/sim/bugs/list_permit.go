package bugs

// permitBugs are those of permit, clock and fence.
func permitBugs() []Bug {
	return []Bug{
		{
			Name:   "no-permit-wait",
			Breaks: "the successor does not wait until the old permit is over",
			Rules:  []string{"rule 1"},
			Edits: []Edit{{
				File: "failover/tick.go",
				Old:  "case a.state.leaseProves(duty.Service) && now.Boot < a.permitOver(duty.Service):",
				New:  "case a.state.leaseProves(duty.Service) && now.Boot < 0:",
			}},
		},
		{
			Name:   "wall-clock",
			Breaks: "a permit ends by the wall clock alone, which is set back",
			Rules:  []string{"rule 1"},
			Edits: []Edit{{
				File: "clock.go",
				Old:  "return now.Boot >= d.Boot || now.Wall >= d.Wall",
				New:  "return now.Wall >= d.Wall",
			}},
		},
		{
			Name:   "stopped-clock",
			Breaks: "a permit ends by the boot clock alone, which stands still while a host is paused",
			Rules:  []string{"rule 1"},
			Edits: []Edit{{
				File: "clock.go",
				Old:  "return now.Boot >= d.Boot || now.Wall >= d.Wall",
				New:  "return now.Boot >= d.Boot",
			}},
		},
		{
			Name:   "permit-from-receipt",
			Breaks: "the holder counts its permit from when the renewal came back, not from before it was sent",
			Rules:  []string{"rule 1", "section 4"},
			Edits: []Edit{{
				File: "failover/agent.go",
				Old:  "		a.found(e)\n	}\n",
				New:  "		a.found(e)\n		if _, known := a.sent[e.ID]; known {\n			a.sent[e.ID] = now\n		}\n	}\n",
			}},
		},
		{
			Name:   "renewal-after-release",
			Breaks: "a renewal that is behind the revocation in the log is applied, and opens the fence again",
			Rules:  []string{"rule 1", "rule 3"},
			Edits: []Edit{
				{
					File: "failover/state.go",
					Old:  "if s.Active == \"\" || s.Revoked {\n		return \"\", 0, false",
					New:  "if s.Active == \"\" || s.Revoked && !s.Released {\n		return \"\", 0, false",
				},
				{
					File: "fence/ledger.go",
					Old:  "case epoch <= l.Ended:",
					New:  "case epoch < l.Ended:",
				},
			},
		},
		{
			Name:   "stale-epoch",
			Breaks: "the guard takes whatever epoch it is told, also below one that it has seen",
			Rules:  []string{"rule 1", "rule 3"},
			Edits: []Edit{{
				File: "fence/ledger.go",
				Old:  "case epoch < l.Highest:\n		return fmt.Errorf(\"%w: epoch %d, seen %d\", draas.ErrStaleEpoch, epoch, l.Highest)\n	case epoch <= l.Ended:",
				New:  "case l == nil:",
			}},
		},
		{
			Name:   "late-fence-write",
			Breaks: "a deadline that was on its way while the guard was told to close opens the fence again",
			Rules:  []string{"rule 1", "rule 3"},
			Edits: []Edit{{
				File: "fence/ledger.go",
				Old:  "case epoch <= l.Ended:",
				New:  "case epoch < l.Ended:",
			}},
		},
		{
			Name:   "fence-needs-network",
			Breaks: "the fence closes when the log says so, not by itself when the deadline passes",
			Rules:  []string{"rule 1"},
			Edits: []Edit{{
				File: "fence/ledger.go",
				Old:  "	if l.Deadline.Passed(now) {\n		l.Deadline = draas.Deadline{}\n		return false\n	}\n	return true",
				New:  "	_ = now\n	return l.Deadline != (draas.Deadline{})",
			}},
		},
		{
			Name:   "fence-after-promote",
			Breaks: "the old holder releases its permit before it has observed its fence closed",
			Rules:  []string{"rule 1"},
			Edits: []Edit{{
				File: "failover/tick.go",
				Old:  "	if open {\n		return\n	}\n",
				New:  "	_ = open\n",
			}},
		},
		{
			Name:   "copy-releases",
			Breaks: "a copy of the active machine releases its permit, and takes it over, as soon as it is up",
			Rules:  []string{"rule 1"},
			Edits: []Edit{
				{
					File: "failover/tick.go",
					Old:  "sv.Revoked && !sv.Released && now.Boot >= a.serveAfter {",
					New:  "sv.Revoked && !sv.Released {",
				},
				{
					File: "failover/tick.go",
					Old:  "case sv.Active == a.ownSite() && now.Boot < a.serveAfter:",
					New:  "case sv.Active == a.ownSite() && now.Boot < 0:",
				},
			},
		},
		{
			Name:   "copy-restarts",
			Breaks: "a copy of the active machine whose daemon starts a second time renews at once",
			Rules:  []string{"rule 1"},
			Edits: []Edit{{
				File: "failover/agent.go",
				Old:  "(old.Boot != a.cfg.Boot || old.Moved)",
				New:  "old.Boot != a.cfg.Boot",
			}},
		},
	}
}
