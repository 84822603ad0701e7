package rto

import "time"

// Stretch is a piece of a strip: how the requests that were due in it ended.
type Stretch struct {
	Span
	Site         Site // that gave most of the good answers
	Sent, Failed int
}

// Strip draws a stream over a window, in at most so many pieces of equal
// length: neighbours that are alike, all good at one site or all failed, are
// one. A piece without requests belongs to the one before it.
func Strip(samples []Sample, window Span, pieces int) []Stretch {
	length := window.Len()
	if length <= 0 || pieces <= 0 {
		return nil
	}
	edge := func(i int) time.Duration {
		return window.From + time.Duration(float64(length)*float64(i)/float64(pieces))
	}
	var out []Stretch
	next := 0
	for next < len(samples) && samples[next].At < window.From {
		next++
	}
	for i := range pieces {
		piece := Stretch{Span: Span{From: edge(i), To: edge(i + 1)}}
		good := make(map[Site]int)
		for ; next < len(samples) && samples[next].At < piece.To; next++ {
			a := &samples[next]
			piece.Sent++
			if !a.Good() {
				piece.Failed++
				continue
			}
			good[a.Site]++
			if n, most := good[a.Site], good[piece.Site]; n > most || n == most && a.Site < piece.Site {
				piece.Site = a.Site
			}
		}
		last := len(out) - 1
		switch {
		case piece.Sent == 0 && last >= 0:
			out[last].To = piece.To
		case piece.Sent == 0:
		case last >= 0 && alike(out[last], piece):
			out[last].To = piece.To
			out[last].Sent += piece.Sent
			out[last].Failed += piece.Failed
		default:
			out = append(out, piece)
		}
	}
	return out
}

func alike(a, b Stretch) bool {
	if a.Failed == a.Sent || b.Failed == b.Sent {
		return a.Failed == a.Sent && b.Failed == b.Sent
	}
	return a.Site == b.Site && a.Failed == 0 && b.Failed == 0
}
