package stream

func role() bool { return false }
