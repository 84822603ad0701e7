package rounds

import (
	"slices"
	"testing"
)

func TestNumbers(t *testing.T) {
	var thousand []float64
	for i := range 1000 {
		thousand = append(thousand, float64(1000-i))
	}
	for _, c := range []struct {
		values []float64
		p      float64
		want   float64
	}{
		{nil, 50, 0},
		{[]float64{3}, 99, 3},
		{[]float64{4, 1, 3, 2}, 50, 2.5},
		{[]float64{5, 1, 3}, 50, 3},
		{[]float64{4, 1, 3, 2}, 75, 3},
		{[]float64{4, 1, 3, 2}, 100, 4},
		{[]float64{4, 1, 3, 2}, 0, 1},
		{thousand, 99, 990},
	} {
		if got := Percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile(%v, %v) = %v, want %v", c.values, c.p, got, c.want)
		}
	}
	for _, c := range []struct {
		values []float64
		want   Range
	}{{nil, Range{}}, {[]float64{4, 1, 7}, Range{4, 1, 7}}, {[]float64{3, 1, 2, 10}, Range{2.5, 1, 10}}} {
		if got := RangeOf(c.values); got != c.want {
			t.Errorf("range of %v: %v, want %v", c.values, got, c.want)
		}
	}
	if got := Ratios([]float64{2, 3, 9}, []float64{1, 0, 3}); !slices.Equal(got, []float64{2, 3}) {
		t.Errorf("ratios %v, want those of the rounds that both have, without what cannot be divided", got)
	}
}
