// Package cloud turns one cloud of a clouds.yaml into clients that a daemon can
// trust for months.
//
// [Read] reads the file, [Open] logs in, [Session.Service] gives gophercloud's
// client of a service, [Session.As] the session in another project:
//
//	c, err := cloud.Read(cloud.Source{File: "/etc/draas/clouds.yaml", Name: "dr"})
//	s, err := cloud.Open(ctx, c, cloud.Options{Log: log})
//	defer s.Close()
//	images, err := s.Service("image") // errors.Is(err, cloud.ErrNoService)
//
// All requests of a session, in whatever project, share one transport, and
// each service's its limiter: concurrency that adapts, pauses that the service
// asks for (Retry-After), requests and octets a second by the time of day. What
// is safe to repeat is repeated a few times; what may have been done and may not
// is an error for which [Uncertain] holds. A token goes to the hosts of the
// catalog only, and links that a service prints are led back to its endpoint.
//
// Errors of a client's requests are *[Error], beside gophercloud's own, which
// gophercloud.ResponseCodeIs still finds; [NotFound], [Conflict], [Denied],
// [Temporary] and [Uncertain] ask of them, and they hold no token.
//
// Bodies of any size go by [Download], [Resuming] and [Upload]. A client of
// this package refuses gophercloud's own uploads of a stream: after a 401 the
// library sends an empty body and reports success.
package cloud
