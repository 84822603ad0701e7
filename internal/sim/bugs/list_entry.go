package bugs

// entryBugs are those of where users of frontends at several sites enter.
func entryBugs() []Bug {
	return []Bug{
		{
			Name:   "entry-one-vantage",
			Breaks: "one failure domain that does not hear a site's frontends is enough to lead users elsewhere",
			Rules:  []string{"rule 5"},
			Edits: []Edit{{
				File: "failover/way.go",
				Old:  "dead := domains >= s.Policy.Services[id].Confirmations",
				New:  "dead := domains >= 1",
			}},
		},
		{
			Name:   "entry-goes-back",
			Breaks: "users are led back as soon as a frontend at the active site is heard again",
			Rules:  []string{"rule 5", "users of"},
			Edits: []Edit{{
				File: "failover/entry.go",
				Old:  "	case !failed && !measured && !e.Lost:\n",
				New: "	case !failed && !measured && !e.Lost:\n" +
					"		if home, has := policy.way(part, sv.Active); has && e.Site != sv.Active && s.s.hear(id, home, false).well {\n" +
					"			s.turn(id, part, sv.Active, \"\", \"back\", []Reason{ok(ReasonWay, \"users can enter at %s\", sv.Active)})\n" +
					"		}\n",
			}},
		},
		{
			Name:   "turn-stays",
			Breaks: "users enter at another site under the token that led them to the one before",
			Rules:  []string{"section 4"},
			Edits: []Edit{{
				File: "failover/entry.go",
				Old:  "Turn: sv.Entries[part].Turn + 1",
				New:  "Turn: sv.Entries[part].Turn",
			}},
		},
	}
}
