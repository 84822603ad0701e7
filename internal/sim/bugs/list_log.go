package bugs

// logBugs are those of the replicated log and its disk.
func logBugs() []Bug {
	return []Bug{
		{
			Name:   "ack-before-fsync",
			Breaks: "entries and votes are acknowledged before they are durable",
			Rules:  []string{"the daemon of", "section 4"},
			Edits: []Edit{{
				File: "quorum/log.go",
				Old:  "	if err := j.file.Sync(); err != nil {\n		return fmt.Errorf(\"sync log: %w\", err)\n	}\n	j.size",
				New:  "	j.size",
			}},
		},
		{
			Name:   "forgotten-vote",
			Breaks: "a member that restarts does not know whom it has voted for, and votes again",
			Rules:  []string{"section 4", "the daemon of", "rule 1"},
			Edits: []Edit{{
				File: "quorum/log_codec.go",
				Old:  "binary.AppendUvarint(b, x.Hard.Vote)",
				New:  "binary.AppendUvarint(b, 0)",
			}},
		},
		{
			Name:   "snapshot-rollback",
			Breaks: "a member whose log went backwards is listened to, and votes and acknowledges anew",
			Rules:  []string{"section 4", "the daemon of", "rule 1"},
			Edits:  trusting(),
		},
		{
			Name:   "old-id-empty-log",
			Breaks: "a member that lost its disk comes back under its old number, with an empty log",
			Rules:  []string{"section 4", "the daemon of", "rule 1", "liveness"},
			Edits: append(trusting(), Edit{
				File: "quorum/join.go",
				Old:  "	meta.RaftID = id\n",
				New:  "	meta.RaftID = map[draas.MemberID]uint64{\"dr\": 1, \"primary\": 2, \"witness\": 3}[meta.Self]\n	_ = id\n",
			}),
		},
	}
}

// trusting takes away what finds out that a log went backwards: what peers
// remember of it, and what they tell it. What a leader's heartbeat shows is
// left, which is too late.
func trusting() []Edit {
	return []Edit{
		{
			File: "quorum/core_claims.go",
			Old:  "	k := &p.known\n	switch {\n	case p.void != 0:\n",
			New:  "	k := &p.known\n	switch {\n	case h != nil:\n		return 0, false\n	case p.void != 0:\n",
		},
		{
			File: "quorum/core_claims.go",
			Old:  "	case k.start == 0:\n		return 0\n",
			New:  "	case k.start == 0 || c.start > 0:\n		return 0\n",
		},
	}
}
