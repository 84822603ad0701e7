// Package route53 moves a name in a hosted zone of Amazon Route 53.
//
// Its promise is strong, by what AWS says of ChangeResourceRecordSets
// (docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html):
//
//   - "Change batches are considered transactional changes. Route 53 validates
//     the changes in the request and then either makes all or none of the
//     changes in the change batch request."
//   - "To delete a resource record set, you must specify all the same values
//     that you specified when you created it." "If validation for either the
//     DELETE or the CREATE action fails, then the request is canceled".
//   - "If Amazon Route 53 can't process a request before the next request
//     arrives, it will reject subsequent requests for the same hosted zone"
//     (PriorRequestNotComplete).
//
// Every batch deletes the epoch's record exactly as it was read, or creates it
// where there was none, and replaces the addresses with it. So one batch alone
// fits each state of the record, and no text of the record ever stands twice.
package route53

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// DefaultRegion is where requests are signed for: Route 53 has one control
// plane, in us-east-1.
const DefaultRegion = "us-east-1"

// Config describes the effect on one hosted zone.
type Config struct {
	Zone            string // fully qualified
	ZoneID          string // as Route 53 names it, Z...
	Names           []dns.Name
	CredentialsFile string // as ParseCredentials takes it; read anew for each request
	Region          string // to sign for. Default DefaultRegion
	Endpoint        string // https URL; empty: Amazon's
	CA              string // file with the roots to trust; empty: the system's
	// Authorities are the zone's servers. Default of Lag: dns.DefaultLag
	// ("changes generally propagate to all Route 53 name servers within 60
	// seconds").
	Authorities           []dns.Server
	Request, Timeout, Lag time.Duration
}

// New validates the configuration, reads the credentials once to see that it
// can, and returns the effect.
func New(cfg Config) (*dns.Hosted, error) {
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	cfg.ZoneID = strings.TrimPrefix(cfg.ZoneID, "/hostedzone/")
	var errs []error
	if cfg.ZoneID == "" || strings.ContainsAny(cfg.ZoneID, "/?# ") {
		errs = append(errs, fmt.Errorf("zone id %q", cfg.ZoneID))
	}
	if cfg.Endpoint != "" {
		errs = append(errs, dns.CheckEndpoint(cfg.Endpoint))
	}
	if _, err := readCredentials(cfg.CredentialsFile); err != nil {
		errs = append(errs, err)
	}
	client, err := dns.HTTPClient(cfg.CA)
	errs = append(errs, err)
	effect, err := dns.NewHosted(dns.HostedConfig{Zone: cfg.Zone, Names: cfg.Names, Store: &store{cfg, client},
		CompareAndSet: runbook.Strong, Authorities: cfg.Authorities,
		Request: cfg.Request, Timeout: cfg.Timeout, Lag: cfg.Lag})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("route 53: %w", err)
	}
	return effect, nil
}

// store is one hosted zone.
type store struct {
	cfg    Config
	client *http.Client
}

var _ dns.Store = (*store)(nil)

// call makes one request with the credentials of now. The library's client is
// as short-lived: it keeps keys derived from a secret by the name of the access
// key alone.
func (s *store) call(request func(*route53.Client) error) error {
	c, err := readCredentials(s.cfg.CredentialsFile)
	if err != nil {
		return &dns.ServiceError{Kind: dns.ErrCredentials, Said: err.Error()}
	}
	o := route53.Options{Region: s.cfg.Region, HTTPClient: s.client, Retryer: aws.NopRetryer{}, Logger: logging.Nop{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: c.id, SecretAccessKey: c.secret, SessionToken: c.token}, nil
		})}
	if s.cfg.Endpoint != "" {
		o.BaseEndpoint = &s.cfg.Endpoint
	}
	return failure(request(route53.New(o)), c.secret, c.token)
}

// read is what stands at the name, exactly.
type read []types.ResourceRecordSet

// Read lists the epoch's record first: addresses that are read later are that
// epoch's, or a later one's.
func (s *store) Read(ctx context.Context, n dns.Name) (dns.Held, error) {
	var held dns.Held
	var all read
	for _, owner := range []string{dns.EpochName(n.Name), n.Name} {
		sets, err := s.list(ctx, owner)
		if err != nil {
			return dns.Held{}, err
		}
		for _, set := range sets {
			classify(&held, n, owner, set)
		}
		all = append(all, sets...)
	}
	held.Version = all
	return held, nil
}

// classify adds a record set to what is held.
func classify(held *dns.Held, n dns.Name, owner string, set types.ResourceRecordSet) {
	rtype := string(set.Type)
	values := make([]string, len(set.ResourceRecords))
	for i, r := range set.ResourceRecords {
		values[i] = aws.ToString(r.Value)
	}
	held.Add(n, owner, rtype, values)
	if !replaces(n, owner, rtype) {
		return
	}
	switch {
	case set.AliasTarget != nil:
		held.Bar("an alias record", owner)
	case set.TrafficPolicyInstanceId != nil:
		held.Bar("a record of a traffic policy", owner)
	case set.SetIdentifier != nil || set.HealthCheckId != nil:
		held.Bar("a record with a routing policy", owner)
	}
}

// replaces reports whether a change would replace a record set.
func replaces(n dns.Name, owner, rtype string) bool {
	if mdns.CanonicalName(owner) == mdns.CanonicalName(dns.EpochName(n.Name)) {
		return rtype == string(types.RRTypeTxt)
	}
	return rtype == string(types.RRTypeA) || rtype == string(types.RRTypeAaaa) || rtype == string(types.RRTypeCname)
}

// maxPages bounds how many pages of one name's record sets are read: a name
// with routing policies has many sets.
const maxPages = 50

// list is all record sets at a name.
func (s *store) list(ctx context.Context, owner string) (read, error) {
	in := &route53.ListResourceRecordSetsInput{HostedZoneId: &s.cfg.ZoneID, StartRecordName: &owner}
	var out read
	for range maxPages {
		var page *route53.ListResourceRecordSetsOutput
		err := s.call(func(c *route53.Client) (err error) {
			page, err = c.ListResourceRecordSets(ctx, in)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, set := range page.ResourceRecordSets {
			if mdns.CanonicalName(aws.ToString(set.Name)) != mdns.CanonicalName(owner) {
				return out, nil // they are sorted by name
			}
			out = append(out, set)
		}
		if !page.IsTruncated {
			return out, nil
		}
		in.StartRecordName, in.StartRecordType, in.StartRecordIdentifier = page.NextRecordName, page.NextRecordType, page.NextRecordIdentifier
	}
	return nil, &dns.ServiceError{Kind: dns.ErrForeign, Said: fmt.Sprintf("more than %d pages of records at %s", maxPages, owner)}
}

// Replace makes one batch: what was read is deleted, exactly, and what is to be
// is created.
func (s *store) Replace(ctx context.Context, send dns.Send, was dns.Held, to dns.Change) (string, error) {
	sets, ok := was.Version.(read)
	if !ok {
		return "", errors.New("replace what was not read here")
	}
	var batch []types.Change
	for _, set := range sets {
		if replaces(to.Name, aws.ToString(set.Name), string(set.Type)) {
			batch = append(batch, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &set})
		}
	}
	for _, set := range to.Sets() {
		next := &types.ResourceRecordSet{Name: &set.Owner, Type: types.RRType(set.Type), TTL: aws.Int64(int64(set.TTL))}
		for _, v := range set.Values {
			next.ResourceRecords = append(next.ResourceRecords, types.ResourceRecord{Value: &v})
		}
		batch = append(batch, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: next})
	}
	in := &route53.ChangeResourceRecordSetsInput{HostedZoneId: &s.cfg.ZoneID,
		ChangeBatch: &types.ChangeBatch{Changes: batch, Comment: aws.String("draas: " + to.Epoch)}}
	var ref string
	err := send(ctx, func(ctx context.Context) error {
		return s.call(func(c *route53.Client) error {
			out, err := c.ChangeResourceRecordSets(ctx, in)
			if err == nil && out.ChangeInfo != nil {
				ref = aws.ToString(out.ChangeInfo.Id)
			}
			return err
		})
	})
	return ref, err
}

// Settled asks for the change's status: "INSYNC indicates that the changes have
// propagated to all Route 53 DNS servers managing the hosted zone" (GetChange).
func (s *store) Settled(ctx context.Context, _ dns.Name, ref string) (pending string, err error) {
	if ref == "" {
		return "", nil
	}
	err = s.call(func(c *route53.Client) error {
		out, err := c.GetChange(ctx, &route53.GetChangeInput{Id: &ref})
		if err == nil && (out.ChangeInfo == nil || out.ChangeInfo.Status != types.ChangeStatusInsync) {
			pending = "the change has not reached all of Route 53's servers"
		}
		return err
	})
	return pending, err
}

// kinds are the codes of the interface that tell more than their status.
var kinds = map[string]error{
	"InvalidChangeBatch":      dns.ErrMoved, // the records are others, or it does not like ours: Do finds out
	"PriorRequestNotComplete": dns.ErrBusy,
	"Throttling":              dns.ErrThrottled,
	"ThrottlingException":     dns.ErrThrottled,
	"RequestLimitExceeded":    dns.ErrThrottled,
	"NoSuchHostedZone":        dns.ErrNoZone,
	"LimitsExceeded":          dns.ErrQuota,
	"AccessDenied":            dns.ErrPermission,
	"AccessDeniedException":   dns.ErrPermission,
	"NotAuthorizedException":  dns.ErrPermission,

	"ExpiredToken":                dns.ErrCredentials,
	"ExpiredTokenException":       dns.ErrCredentials,
	"IncompleteSignature":         dns.ErrCredentials,
	"InvalidClientTokenId":        dns.ErrCredentials,
	"InvalidSignatureException":   dns.ErrCredentials,
	"MissingAuthenticationToken":  dns.ErrCredentials,
	"OptInRequired":               dns.ErrCredentials,
	"RequestExpired":              dns.ErrCredentials,
	"SignatureDoesNotMatch":       dns.ErrCredentials,
	"UnrecognizedClientException": dns.ErrCredentials,
}

// failure is what an error of the library's means.
func failure(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	f := &dns.ServiceError{Kind: dns.ErrUnanswered}
	var status int
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
		if r := response.Response; r != nil && r.Response != nil {
			f.After = dns.RetryAfter(r.Header, time.Now())
		}
	}
	var api smithy.APIError
	switch known := errors.As(err, &api); {
	case known:
		f.Said = dns.Said(api.ErrorCode()+": "+api.ErrorMessage(), secrets...)
	default:
		f.Said = dns.Said(err.Error(), secrets...)
	}
	if kind := dns.OfStatus(status); kind != nil && status != 0 {
		f.Kind = kind
	}
	if api != nil && kinds[api.ErrorCode()] != nil {
		f.Kind = kinds[api.ErrorCode()]
	}
	return f
}
