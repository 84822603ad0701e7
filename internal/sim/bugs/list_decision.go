package bugs

// decisionBugs are those of what is decided, and by whom.
func decisionBugs() []Bug {
	return []Bug{
		{
			Name:   "one-vantage",
			Breaks: "one failure domain's word is enough for an automatic move",
			Rules:  []string{"rule 5"},
			Edits: []Edit{{
				File: "failover/judge.go",
				Old:  "s.Policy.Services[id].Confirmations, s.views(id, part)[site]",
				New:  "1, s.views(id, part)[site]",
			}},
		},
		{
			Name:   "role-from-file",
			Breaks: "a daemon that starts serves because its file says that its site is home",
			Rules:  []string{"rule 2"},
			Edits: []Edit{{
				File: "failover/tick.go",
				Old:  "		a.proposeHello(&c, now)\n",
				New: "		a.proposeHello(&c, now)\n" +
					"		for id, p := range a.cfg.Policy.Services {\n" +
					"			if p.Home == a.ownSite() {\n" +
					"				epoch := draas.Epoch(1)\n" +
					"				if sv := a.state.Services[id]; sv != nil {\n" +
					"					epoch = max(epoch, sv.Epoch)\n" +
					"				}\n" +
					"				for _, part := range a.cfg.Policy.PartsOf(id) {\n" +
					"					c.Extend = append(c.Extend, Extend{part, epoch, draas.DeadlineAt(now, p.Lease.Hold()/2)})\n" +
					"				}\n" +
					"			}\n" +
					"		}\n",
			}},
		},
		{
			Name:   "lost-move",
			Breaks: "a member that restarts forgets the move that it was to carry out",
			Rules:  []string{"liveness"},
			Edits: []Edit{
				{
					File: "failover/agent.go",
					Old:  "	greeted    bool\n",
					New:  "	greeted    bool\n	forgotten  map[draas.ServiceID]draas.Epoch\n",
				},
				{
					File: "failover/agent.go",
					Old:  "	a.greeted = true\n",
					New: "	a.greeted, a.forgotten = true, make(map[draas.ServiceID]draas.Epoch)\n" +
						"	for id, sv := range a.state.Services {\n" +
						"		if sv.Move != nil {\n" +
						"			a.forgotten[id] = sv.Move.Epoch\n" +
						"		}\n" +
						"	}\n",
				},
				{
					File: "failover/tick.go",
					Old:  "			case duty.Member != a.cfg.Self:\n",
					New:  "			case duty.Member != a.cfg.Self || (duty.Kind == ActionTake || duty.Kind == ActionStep) && a.forgotten[id] == duty.Epoch:\n",
				},
			},
		},
		{
			Name:   "held-undo",
			Breaks: "a move holds further ones off from its start, so that one that fails half-way is not undone",
			Rules:  []string{"rule 11"},
			Edits: []Edit{
				{
					File: "failover/move.go",
					Old:  "	delete(sv.Timers, timerStart)\n	s.record(Record{Kind: RecordDecision, Service: id, Phase: sv.Phase, Epoch: m.Epoch,\n",
					New:  "	delete(sv.Timers, timerStart)\n	s.hold(id, m)\n	s.record(Record{Kind: RecordDecision, Service: id, Phase: sv.Phase, Epoch: m.Epoch,\n",
				},
				{
					File: "failover/move.go",
					Old:  "s.s.proof(id, false), s.s.paused(id))",
					New:  "s.s.proof(id, false), s.s.paused(id), s.s.held(id))",
				},
			},
		},
		{
			Name:   "unequal-versions",
			Breaks: "members step by the newest version that they know, without waiting for one that does not know it",
			Rules:  []string{"section 4"},
			Edits: []Edit{
				// A program of version 1 does what it knows.
				{
					File: "failover/agent.go",
					Old:  "	before := a.state\n",
					New:  "	before := a.state\n	before.Version = min(before.Version, a.cfg.Version)\n",
				},
				{
					File: "failover/members.go",
					Old:  "		v = min(v, max(st.Version, 1))\n",
					New:  "		v = max(v, st.Version)\n",
				},
			},
		},
		{
			Name:   "blind-vantage",
			Breaks: "a member that sees nobody else counts as a witness of a site's failure",
			Rules:  []string{"rule 5"},
			Edits: []Edit{{
				File: "failover/judge.go",
				Old:  "says != draas.Healthy && s.blind(m, site)",
				New:  "says > draas.Failed && s.blind(m, site)",
			}},
		},
		{
			Name:   "unfit-target",
			Breaks: "an automatic move goes to a site that is dead too",
			Rules:  []string{"rule 7"},
			Edits: []Edit{{
				File: "failover/judge.go",
				Old:  "		if o.Verdict != draas.Healthy {\n",
				New:  "		if o.Verdict > draas.Failed {\n",
			}},
		},
		{
			Name:   "hold-ignored",
			Breaks: "a completed move holds no further automatic ones off",
			Rules:  []string{"rule 11"},
			Edits: []Edit{{
				File: "failover/timers.go",
				Old:  "	case !set:\n		return ok(ReasonHold,",
				New:  "	case !set || sv != nil:\n		return ok(ReasonHold,",
			}},
		},
		{
			Name:   "pause-ignored",
			Breaks: "services move by themselves although an operator paused that",
			Rules:  []string{"paused means paused"},
			Edits: []Edit{{
				File: "failover/timers.go",
				Old:  "if p := s.Services[id].Pause; p != nil {",
				New:  "if p := s.Services[id].Pause; p != nil && p.For == 0 {",
			}},
		},
		{
			Name:   "request-lost",
			Breaks: "an operator's request that is lost on its way to the leader is not proposed again",
			Rules:  []string{"liveness"},
			Edits: []Edit{{
				File: "failover/propose.go",
				Old:  "	if a.asked == nil || a.state.Version < 3 {\n",
				New:  "	if a.asked == nil || a.state.Version > 0 {\n",
			}},
		},
		{
			Name:   "request-twice",
			Breaks: "an operator's request that stands in the log twice is decided twice",
			Rules:  []string{"section 4"},
			Edits: []Edit{{
				File: "failover/request.go",
				Old:  "	if s.e.ID <= m.Asked {\n",
				New:  "	if s.e.ID < m.Asked {\n",
			}},
		},
	}
}
