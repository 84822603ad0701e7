package cloudflare

import (
	"context"
	"errors"
	"slices"

	api "github.com/cloudflare/cloudflare-go/v6/dns"

	"github.com/draasd/draas/schemes/dns"
)

// batch is what Cloudflare is to do in one transaction, in this order.
type batch struct {
	deletes []string // ids
	puts    []record // with their ids
	posts   []record
}

// batchOf makes what is there what is to be. The epoch's record is deleted and
// made anew, so that the batch fits once. Addresses are overwritten in their
// place as far as they go: changes reach the servers one by one, and a name
// should not be empty in between.
func batchOf(was held, to dns.Change) batch {
	var b batch
	var old []record
	for _, r := range was {
		switch {
		case !replaces(to.Name, r):
		case r.Type == "TXT":
			b.deletes = append(b.deletes, r.ID)
		default:
			old = append(old, r)
		}
	}
	var wanted []record
	for _, s := range to.Sets() {
		for _, v := range s.Values {
			r := record{Type: s.Type, Name: s.Owner, Content: v, TTL: s.TTL, Comment: Comment}
			if s.Type == "TXT" {
				b.posts = append(b.posts, r)
				continue
			}
			// What has the value already is overwritten by itself: another one
			// with the same would not be taken.
			if i := slices.IndexFunc(old, func(o record) bool { return o.Type == r.Type && o.value() == r.value() }); i >= 0 {
				r.ID = old[i].ID
				if old[i].TTL != r.TTL || old[i].Comment != r.Comment {
					b.puts = append(b.puts, r)
				}
				old = slices.Delete(old, i, i+1)
				continue
			}
			wanted = append(wanted, r)
		}
	}
	for _, r := range wanted {
		if i := slices.IndexFunc(old, func(o record) bool { return o.Type == r.Type }); i >= 0 {
			r.ID = old[i].ID
			b.puts = append(b.puts, r)
			old = slices.Delete(old, i, i+1)
			continue
		}
		b.posts = append(b.posts, r)
	}
	for _, r := range old {
		b.deletes = append(b.deletes, r.ID)
	}
	return b
}

// params is the batch in the library's words.
func (b batch) params(zoneID string) api.RecordBatchParams {
	var p api.RecordBatchParams
	set(&p.ZoneID.Value, &p.ZoneID.Present, zoneID)
	for _, id := range b.deletes {
		var d api.RecordBatchParamsDelete
		set(&d.ID.Value, &d.ID.Present, id)
		p.Deletes.Value, p.Deletes.Present = append(p.Deletes.Value, d), true
	}
	for _, r := range b.puts {
		p.Puts.Value, p.Puts.Present = append(p.Puts.Value, put(r)), true
	}
	for _, r := range b.posts {
		p.Posts.Value, p.Posts.Present = append(p.Posts.Value, post(r)), true
	}
	return p
}

func post(r record) api.RecordBatchParamsPost {
	var p api.RecordBatchParamsPost
	set(&p.Name.Value, &p.Name.Present, unrooted(r.Name))
	set(&p.TTL.Value, &p.TTL.Present, api.TTL(r.TTL))
	set(&p.Type.Value, &p.Type.Present, api.RecordBatchParamsPostsType(r.Type))
	set(&p.Comment.Value, &p.Comment.Present, r.Comment)
	set(&p.Content.Value, &p.Content.Present, content(r))
	set(&p.Proxied.Value, &p.Proxied.Present, false)
	return p
}

func put(r record) api.BatchPutUnionParam {
	switch r.Type {
	case "A":
		var p api.BatchPutARecordParam
		set(&p.ID.Value, &p.ID.Present, r.ID)
		set(&p.Name.Value, &p.Name.Present, unrooted(r.Name))
		set(&p.TTL.Value, &p.TTL.Present, api.TTL(r.TTL))
		set(&p.Type.Value, &p.Type.Present, api.ARecordTypeA)
		set(&p.Comment.Value, &p.Comment.Present, r.Comment)
		set(&p.Content.Value, &p.Content.Present, r.Content)
		set(&p.Proxied.Value, &p.Proxied.Present, false)
		return p
	case "AAAA":
		var p api.BatchPutAAAARecordParam
		set(&p.ID.Value, &p.ID.Present, r.ID)
		set(&p.Name.Value, &p.Name.Present, unrooted(r.Name))
		set(&p.TTL.Value, &p.TTL.Present, api.TTL(r.TTL))
		set(&p.Type.Value, &p.Type.Present, api.AAAARecordTypeAAAA)
		set(&p.Comment.Value, &p.Comment.Present, r.Comment)
		set(&p.Content.Value, &p.Content.Present, r.Content)
		set(&p.Proxied.Value, &p.Proxied.Present, false)
		return p
	}
	var p api.BatchPutCNAMERecordParam
	set(&p.ID.Value, &p.ID.Present, r.ID)
	set(&p.Name.Value, &p.Name.Present, unrooted(r.Name))
	set(&p.TTL.Value, &p.TTL.Present, api.TTL(r.TTL))
	set(&p.Type.Value, &p.Type.Present, api.CNAMERecordTypeCNAME)
	set(&p.Comment.Value, &p.Comment.Present, r.Comment)
	set(&p.Content.Value, &p.Content.Present, content(r))
	set(&p.Proxied.Value, &p.Proxied.Present, false)
	return p
}

// unrooted is a name without its last dot, as Cloudflare has them.
func unrooted(name string) string { return name[:len(name)-1] }

// content is the record's data as Cloudflare has it.
func content(r record) string {
	if r.Type == "CNAME" {
		return unrooted(r.Content)
	}
	return r.Content
}

// Replace makes one batch.
func (s *store) Replace(ctx context.Context, send dns.Send, was dns.Held, to dns.Change) (string, error) {
	records, ok := was.Version.(held)
	if !ok {
		return "", errors.New("replace what was not read here")
	}
	p := batchOf(records, to).params(s.cfg.ZoneID)
	return "", send(ctx, func(ctx context.Context) error {
		_, err := s.call(func(c *api.RecordService) error {
			_, err := c.Batch(ctx, p)
			return err
		})
		return err
	})
}
