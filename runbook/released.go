package runbook

import (
	"sync"

	"github.com/draasd/draas"
)

// Released is what one executor gave up: the latest token of each service. The
// log's journal is what makes a release outlive the process. The zero value is
// ready.
type Released struct {
	mu     sync.Mutex
	latest map[draas.ServiceID]Token
}

// Add gives the operation's token up, and all before it.
func (r *Released) Add(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest == nil {
		r.latest = make(map[draas.ServiceID]Token)
	}
	if op.Token.Compare(r.latest[op.Service]) > 0 {
		r.latest[op.Service] = op.Token
	}
}

// Has reports whether the operation's token was given up.
func (r *Released) Has(op Op) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return op.Token.Compare(r.latest[op.Service]) <= 0
}
