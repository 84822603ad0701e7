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
	}
}
