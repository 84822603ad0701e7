package stream

// A connection to which its server has said nothing is led to another one, if
// what that server has got so far is nothing that it acts upon: no byte, or a
// TLS client's first message without early data. So a client that was caught in
// its handshake by a dead or a stopped site does not notice more than a delay.

// renewals bounds how often a connection is led anew after its server reset it:
// a server may reset whoever comes.
const renewals = 3

// remember keeps what a server gets before it has said anything.
func (p *pair) remember(b []byte) {
	switch {
	case p.firm:
	case len(p.sent) == 0 && b[0] != recordHandshake, len(p.sent)+len(b) > maxHello:
		p.firm, p.sent = true, nil
	default:
		p.sent = append(p.sent, b...)
	}
}

// renew leads a connection anew and reports whether it may be. A shadow has a
// copy already, and would get a second one.
func (p *pair) renew() bool {
	if p.firm || p.shadow != nil || len(p.sent) > 0 && !onlyHello(p.sent) {
		return false
	}
	l, d := p.loop, p.lead
	l.shut(&p.server, true)
	d.fd = -1
	l.leave(p.route, d)
	l.giveBack(p.up.space)
	p.server = end{pair: p, fd: -1, slot: -1}
	p.up, p.down = flow{src: &p.client, dst: &p.server}, flow{src: &p.server, dst: &p.client}
	p.lead, p.phase = nil, leading
	p.life.remove()
	p.asked.remove()
	p.asking = false
	if len(p.sent) > 0 {
		p.route.Service.Stats.Replayed.Add(1)
		p.inBytes -= int64(len(p.sent)) // they are counted where they are sent again
	}
	p.early, p.sent = p.sent, nil
	p.renewed++
	p.seek()
	return true
}
