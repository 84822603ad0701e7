package fakecloud

import (
	"net/http"
	"time"
)

// tokenCache is how long a service believes in a token it has asked Keystone
// about (keystonemiddleware's token_cache_time).
const tokenCache = 5 * time.Minute

// StopKeystoneDatabase does to the cloud what the end of Keystone's database
// does: Keystone answers 500 to everything but what its versions are, nobody
// can log in, and the other services answer 503 to tokens that they have not
// asked about within five minutes; Glance and Swift, which leave it to what
// stands behind the question, 401. What they have asked about goes on. So it was
// seen of Keystone 22 and keystonemiddleware 10.1, each answer within 0.4 s.
func (c *Cloud) StopKeystoneDatabase() { c.setKeystoneDatabase(true) }

// StartKeystoneDatabase ends that. Tokens and objects are as they were.
func (c *Cloud) StartKeystoneDatabase() { c.setKeystoneDatabase(false) }

func (c *Cloud) setKeystoneDatabase(stopped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity.databaseStopped = stopped
}

// keystoneAway is what a service says that cannot ask about a token.
func (q *request) keystoneAway() error {
	if q.service == Image || q.service == ObjectStore {
		return errLogin
	}
	return failed(http.StatusServiceUnavailable, "The Keystone service is temporarily unavailable.")
}

// needDatabase is the answer of Keystone without its database, and of services
// that would have to ask it about a token.
func (q *request) needDatabase(t *token) error {
	if q.service == Identity {
		if !q.identity.databaseStopped {
			return nil
		}
		return failed(http.StatusInternalServerError, "An unexpected error prevented the server from fulfilling your request.")
	}
	if t == nil && (!q.identity.databaseStopped || q.r.Header.Get("X-Auth-Token") == "") {
		return nil
	}
	if t == nil {
		return q.keystoneAway()
	}
	now := q.now()
	if seen, known := t.seen[q.service]; known && now.Before(seen.Add(tokenCache)) {
		return nil
	}
	if q.identity.databaseStopped {
		return q.keystoneAway()
	}
	if t.seen == nil {
		t.seen = make(map[string]time.Time)
	}
	t.seen[q.service] = now
	return nil
}
