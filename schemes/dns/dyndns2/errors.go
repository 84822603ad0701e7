package dyndns2

import "errors"

// What hinders a move, by kind.
var (
	// ErrStopped: the service has refused in a way that asking again makes
	// worse. Nothing more is sent until an operator acts.
	ErrStopped = errors.New("no more requests until an operator acts: put it right, then write the credentials file anew (touch will do), " +
		"or reload the configuration")
	// ErrResting: the service has asked to be left alone. Nothing is sent
	// meanwhile.
	ErrResting = errors.New("the service has a failure of its own and wants no request for 30 minutes; to move the name now, change it at the service by hand")
	// ErrBehind: the service says that it has the addresses, and the
	// authorities do not answer them. It would block who sends them again.
	ErrBehind = errors.New("the service has the addresses (nochg) and its authorities do not answer them: see that the list of authorities is right, or wait for them")
	// ErrUnanswered: nobody knows whether the request was carried out, will
	// be, or neither.
	ErrUnanswered = errors.New("no answer that counts")
	// ErrUnsent: the service could not be reached, or not be trusted: nothing
	// was sent.
	ErrUnsent = errors.New("nothing was sent")
	// ErrRedirected: the service leads to where the credentials must not go.
	ErrRedirected = errors.New("a redirect to another host or away from https: put the right url in the configuration")
	// ErrLookup: no authority could be read, so nothing was sent.
	ErrLookup = errors.New("no authority of the name can be read")
	// ErrForeign: there are records at the name that the service cannot be
	// asked to take away.
	ErrForeign = errors.New("a record that this protocol cannot remove: remove it at the service")
)

// advice says what a code that stops means, and what to do.
var advice = map[string]string{
	codeNoHost:   "nohost: the account has no such host: create it at the service, or see that these are the credentials of its account",
	codeNotFQDN:  "notfqdn: the service does not take the name for a full one: correct it",
	codeNumHost:  "numhost: the host has several addresses at the service (round robin): make it a host with one",
	codeBadAuth:  "badauth: user and password do not match: correct the credentials file",
	codeBadAgent: "badagent: the service has disabled this client or does not take its user agent: see that contact is a mail address that is read, and ask the service",
	codeDonator:  "!donator: the account does not have what was asked for: see its plan at the service",
	codeAbuse:    "abuse: the account or the host is blocked: have it unblocked at the service",
}

// ofAccount are the codes that say something of the account, not of the host
// alone. "abuse" is of the host at Dyn and of the user at No-IP.
var ofAccount = map[string]bool{codeBadAuth: true, codeBadAgent: true, codeDonator: true, codeAbuse: true}
