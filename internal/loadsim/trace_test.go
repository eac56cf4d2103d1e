package loadsim

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/internal/budget"
)

func read(t *testing.T, text string, opt ReadOptions) (*Trace, error) {
	t.Helper()
	lease := budget.New(64 << 20).Lease()
	t.Cleanup(lease.Close)
	return Read(strings.NewReader(text), opt, lease)
}

// TestReadMooncake reads lines in the form of Mooncake's traces.
func TestReadMooncake(t *testing.T) {
	const text = `{"timestamp": 0, "input_length": 1025, "output_length": 500, "hash_ids": [0, 1, 2]}

{"timestamp": 3052.5, "input_length": 10, "output_length": 1, "hash_ids": []}
{"timestamp": 3052.5, "input_length": 700, "output_length": 3}
`
	got, err := read(t, text, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	later := 3052*time.Millisecond + 500*time.Microsecond
	want := &Trace{BlockTokens: 512, Entries: []Entry{
		{Input: 1025, Output: 500, Blocks: []int64{0, 1, 2}},
		{Arrival: later, Input: 10, Output: 1},
		{Arrival: later, Input: 700, Output: 3},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err = read(t, text, ReadOptions{BlockTokens: 1024, Limit: 0}); err == nil || !strings.HasPrefix(err.Error(), "line 1: 3 hash_ids are more than the 2 blocks of 1024 tokens") {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err = read(t, text, ReadOptions{Limit: 1}); err != nil || len(got.Entries) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReadDescription(t *testing.T) {
	const text = `{"trace": "t", "about": ["a", "b"], "block_size": 4}` + "\n" + `{"timestamp": 1, "input_length": 9, "output_length": 2, "hash_ids": [7, 8, 9]}` + "\n"
	want := &Trace{Name: "t", About: []string{"a", "b"}, BlockTokens: 4, Entries: []Entry{{Arrival: time.Millisecond, Input: 9, Output: 2, Blocks: []int64{7, 8, 9}}}}
	got, err := read(t, text, ReadOptions{})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	var out bytes.Buffer
	if err := got.Write(&out); err != nil {
		t.Fatal(err)
	}
	if again, err := read(t, out.String(), ReadOptions{}); err != nil || !cmp.Equal(want, again) {
		t.Errorf("written and read again: %v, %s", err, cmp.Diff(want, again))
	}
	if got, err = read(t, text, ReadOptions{BlockTokens: 3}); err != nil || got.BlockTokens != 3 {
		t.Errorf("the option doesn't win: %v, %v", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	const good = `{"timestamp": 5, "input_length": 9, "output_length": 2}` + "\n"
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "\n\n", "no requests"},
		{"only a description", `{"trace": "t"}`, "no requests"},
		{"no JSON", good + "timestamp", "line 2: "},
		{"two objects", strings.TrimSpace(good) + good, "line 1: there is more than one"},
		{"no timestamp", `{"input_length": 9, "output_length": 2}`, "line 1: timestamp is missing"},
		{"no input", `{"timestamp": 5, "output_length": 2}`, "line 1: input_length is missing"},
		{"no output", `{"timestamp": 5, "input_length": 2}`, "line 1: output_length is missing"},
		{"negative time", `{"timestamp": -1, "input_length": 9, "output_length": 2}`, "line 1: timestamp -1"},
		{"years", `{"timestamp": 1e300, "input_length": 9, "output_length": 2}`, "line 1: timestamp 1e+300"},
		{"backwards", good + `{"timestamp": 4.5, "input_length": 9, "output_length": 2}`, "line 2: timestamp 4.5 is before"},
		{"no prompt", `{"timestamp": 5, "input_length": 0, "output_length": 2}`, "input_length is 0"},
		{"endless prompt", `{"timestamp": 5, "input_length": 1048577, "output_length": 2}`, "input_length is 1048577"},
		{"no answer", `{"timestamp": 5, "input_length": 1, "output_length": 0}`, "output_length is 0"},
		{"fractions", `{"timestamp": 5, "input_length": 1.5, "output_length": 1}`, "line 1: "},
		{"what isn't replayed", `{"timestamp": 5, "input_length": 1, "output_length": 1, "session_id": "a"}`, `line 1: json: unknown field "session_id"`},
		{"late description", good + `{"trace": "t"}`, "line 2: about and block_size belong on the first line"},
		{"description without a name", `{"block_size": 32}`, "line 1: about and block_size belong on the first line, with a field trace"},
		{"description and request", `{"trace": "t", "timestamp": 5}`, "can't be a request"},
		{"block size", `{"trace": "t", "block_size": 0}`, "block_size is 0"},
		{"long line", good + `{"timestamp": ` + strings.Repeat(" ", maxLineBytes) + "5}", "line 2 has more than 1048576 bytes"},
	} {
		if got, err := read(t, tc.text, ReadOptions{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, %v", tc.name, got, err)
		}
	}
}

// TestReadIsPriced: a trace that the budget has no room for is refused before it is
// in memory.
func TestReadIsPriced(t *testing.T) {
	b := budget.New(10 << 20)
	lease := b.Lease()
	_, err := Read(strings.NewReader(strings.Repeat(`{"timestamp": 5, "input_length": 9, "output_length": 2}`+"\n", 1e5)), ReadOptions{}, lease)
	if !errors.Is(err, budget.ErrExceeded) || !strings.HasPrefix(err.Error(), "line ") {
		t.Errorf("got %v", err)
	}
	lease.Close()
	if b.Used() != 0 {
		t.Errorf("%d bytes are still reserved", b.Used())
	}
}

func TestRateAndShared(t *testing.T) {
	tr := &Trace{BlockTokens: 4, Entries: []Entry{
		{Arrival: 10 * time.Second, Input: 10, Blocks: []int64{1, 2, 3}},    // the third block is cut to 2
		{Arrival: 12 * time.Second, Input: 14, Blocks: []int64{1, 2, 3, 4}}, // 4 + 4 + 2 shared
		{Arrival: 20 * time.Second, Input: 12, Blocks: []int64{1, 9, 3}},    // 4: the third has another beginning
		{Arrival: 20 * time.Second, Input: 12},
	}}
	if got, want := tr.Shared(), 14.0/48; got != want {
		t.Errorf("shared %v, want %v", got, want)
	}
	if got, want := tr.Rate(), 0.3; got != want {
		t.Errorf("rate %v, want %v", got, want)
	}
	if got := (&Trace{Entries: tr.Entries[2:]}).Rate(); got != 0 {
		t.Errorf("rate %v of requests that arrive at once", got)
	}
}

// FuzzRead: whatever the file, an error or a trace that keeps its bounds, and that
// is the same when it is written and read again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"timestamp": 0, "input_length": 1025, "output_length": 500, "hash_ids": [0, 1, 2]}`), uint16(0))
	f.Add([]byte(`{"trace": "t", "about": ["a"], "block_size": 4}`+"\n"+`{"timestamp": 1e3, "input_length": 9, "output_length": 2, "hash_ids": [7, -8]}`), uint16(8))
	f.Add([]byte(`{"timestamp": 1e999}`), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, block uint16) {
		lease := budget.New(64 << 20).Lease()
		defer lease.Close()
		tr, err := Read(bytes.NewReader(data), ReadOptions{BlockTokens: int(block)}, lease)
		if err != nil {
			return
		}
		ids := 0
		for i, e := range tr.Entries {
			if e.Input < 1 || e.Input > maxTokens || e.Output < 1 || e.Output > maxTokens || e.Arrival < 0 || e.Arrival > maxArrival ||
				i > 0 && e.Arrival < tr.Entries[i-1].Arrival || (len(e.Blocks)-1)*tr.BlockTokens >= e.Input {
				t.Fatalf("entry %d is %+v", i, e)
			}
			ids += len(e.Blocks)
		}
		if held := lease.Held(); held < int64(nodeBytes*ids+len(tr.Entries)) {
			t.Fatalf("%d bytes are reserved for %d ids", held, ids)
		}
		if s := tr.Shared(); s < 0 || s > 1 {
			t.Fatalf("%v of the prompts are shared", s)
		}
		for i := range tr.Entries {
			tr.Entries[i].Arrival = tr.Entries[i].Arrival.Truncate(time.Millisecond)
		}
		var out bytes.Buffer
		if err := tr.Write(&out); err != nil {
			t.Fatal(err)
		}
		again, err := Read(&out, ReadOptions{BlockTokens: tr.BlockTokens}, lease)
		if err != nil || !cmp.Equal(tr.Entries, again.Entries) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
