package main

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/models/hub"
)

func TestByteSize(t *testing.T) {
	for in, want := range map[string]byteSize{
		"1": 1, "512B": 512, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "2GB": 2e9, "2 gb": 2e9, "3kB": 3000, "1TiB": 1 << 40,
		"": 0, "0": 0, "0.5": 0, "-1": 0, "MiB": 0, "1XB": 0, "NaN": 0, "Inf": 0, "1e300GB": 0, "9223372036854775808": 0,
	} {
		var b byteSize
		err := b.UnmarshalText([]byte(in))
		if b != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v, want %d", in, b, err, want)
		}
	}
}

func TestHumanBytes(t *testing.T) {
	for in, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 98362432: "98.4 MB", 3e9: "3.0 GB"} {
		if got := humanBytes(in); got != want {
			t.Errorf("%d is %s, want %s", in, got, want)
		}
	}
}

func TestRates(t *testing.T) {
	if got := perSecond(30, 2*time.Second); got != 15 {
		t.Errorf("30 in 2 s are %g", got)
	}
	for _, n := range []int{0, -1, 5} {
		if got := perSecond(n, 0); got != 0 {
			t.Errorf("%d in no time are %g", n, got)
		}
	}
	if got := median([]float64{1, 2, 9}); got != 2 {
		t.Errorf("median of three: %g", got)
	}
	if got := median([]float64{1, 2, 4, 9}); got != 3 {
		t.Errorf("median of four: %g", got)
	}
	if mean(nil) != nil || *mean([]float64{-1, -2}) != -1.5 {
		t.Error("mean")
	}
}

// What JSON can't hold is still shown, and long arrays only when asked for.
func TestMetadata(t *testing.T) {
	long := make([]int32, shortArray+1)
	for _, tt := range []struct {
		in         any
		full       bool
		json, text string
	}{
		{float32(0.1), false, `0.1`, `0.1`},
		{math.Inf(1), false, `"+Inf"`, `"+Inf"`},
		{float32(math.NaN()), false, `"NaN"`, `"NaN"`},
		{"a\x1b[31m\n", false, `"a\u001b[31m\n"`, `"a\x1b[31m\n"`},
		{true, false, `true`, `true`},
		{[]uint8{1, 2}, false, `[1,2]`, `[1, 2]`},
		{[]float64{1, math.NaN()}, false, `[1,"NaN"]`, `[1, "NaN"]`},
		{[]any{[]int32{1}, []int32{}}, false, `[[1],[]]`, `[[1], []]`},
		{long, false, `{"type":"int32","length":17}`, `[17 x int32]`},
		{[]any{long}, false, `[{"type":"int32","length":17}]`, `[[17 x int32]]`},
		{long[:2], true, `[0,0]`, `[0, 0]`},
	} {
		v := metadataValue(tt.in, tt.full)
		got, err := json.Marshal(v)
		if err != nil || string(got) != tt.json {
			t.Errorf("%v is %s, %v, want %s", tt.in, got, err, tt.json)
		}
		if got := metadataText(v, tt.full); got != tt.text {
			t.Errorf("%v is %s, want %s", tt.in, got, tt.text)
		}
	}
}

// In a log there is a line for each stage and none for each step of it.
func TestPullProgress(t *testing.T) {
	var log bytes.Buffer
	p := &pullProgress{w: &log}
	p.report(hub.Progress{Stage: hub.StageWait})
	for n := range int64(3) {
		p.report(hub.Progress{Stage: hub.StageFetch, Done: n * 1e6, Total: 2e6})
	}
	p.report(hub.Progress{Stage: hub.StageUnpack, Done: 1, Total: 3e6})
	p.finish()
	want := "waiting for another process that is fetching it\nfetching 2.0 MB\nunpacking 3.0 MB\n"
	if log.String() != want {
		t.Errorf("the log is %q", &log)
	}
}
