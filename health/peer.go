package health

import "context"

// Peer makes a probe of another member's daemon from the function that asks it
// for a sign of life. An error of the network or of TLS keeps its class; any
// other means that the peer answered, and not well.
func Peer(ping func(ctx context.Context) error) Probe {
	return func(ctx context.Context) Result {
		if err := ping(ctx); err != nil {
			return failure("ping", err, ClassPeer)
		}
		return Result{Class: ClassOK}
	}
}
