package loadsim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// Trace is a list of requests, in the order in which they arrive.
//
// Its file has one JSON object a line, as the open traces of Mooncake have
// (https://github.com/kvcache-ai/Mooncake, FAST25-release), so those replay as
// they are:
//
//	{"timestamp": 27482, "input_length": 1100, "output_length": 52, "hash_ids": [46, 47, 2353]}
//
// The first line may instead describe the trace:
//
//	{"trace": "chat-synthetic", "about": ["what it is"], "block_size": 32}
//
// docs/traces.md explains the fields.
type Trace struct {
	Name        string
	About       []string
	BlockTokens int // prompt tokens that one of [Entry.Blocks] stands for
	Entries     []Entry
}

// Entry is one request of a [Trace].
type Entry struct {
	Arrival time.Duration // since the trace's clock began
	Input   int           // tokens of the prompt
	Output  int           // tokens of the answer
	// Blocks name the content of the prompt block by block; the last may be cut by
	// the prompt's end. Prompts whose blocks begin with the same ids begin with the
	// same text. Tokens behind the last block are the request's own.
	Blocks []int64
}

// Bounds of a trace.
const (
	DefaultBlockTokens = 512     // of Mooncake's traces
	maxTokens          = 1 << 20 // of a prompt, an answer or a block
	maxLineBytes       = 1 << 20
	maxArrival         = 366 * 24 * time.Hour
	maxAbout           = 64
	nodeBytes          = 128 // of a block in the tree of Shared, which grows by doubling
)

// ReadOptions say how [Read] reads.
type ReadOptions struct {
	BlockTokens int // instead of what the trace says; 0: as it says, else [DefaultBlockTokens]
	Limit       int // requests to read at most; 0: all
}

// record is a line.
type record struct {
	Timestamp    *float64 `json:"timestamp,omitempty"` // ms
	InputLength  *int     `json:"input_length,omitempty"`
	OutputLength *int     `json:"output_length,omitempty"`
	HashIDs      []int64  `json:"hash_ids,omitempty"`

	Trace     *string  `json:"trace,omitempty"`
	About     []string `json:"about,omitempty"`
	BlockSize *int     `json:"block_size,omitempty"`
}

// Read reads a trace, whose memory it reserves in lease. An error names the line.
func Read(r io.Reader, opt ReadOptions, lease *budget.Lease) (*Trace, error) {
	// The longest line, and what decoding makes of it: 8 bytes of an id for two of
	// text, twice while the list grows.
	if err := lease.Reserve(budget.Request, 9*maxLineBytes); err != nil {
		return nil, err
	}
	t := &Trace{BlockTokens: DefaultBlockTokens}
	if opt.BlockTokens > 0 {
		t.BlockTokens = opt.BlockTokens
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLineBytes)
	n, first := 0, true
	for (opt.Limit == 0 || len(t.Entries) < opt.Limit) && lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := t.add(line, first, opt, lease); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		first = false
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d has more than %d bytes", n+1, maxLineBytes)
	case err != nil:
		return nil, err
	case len(t.Entries) == 0:
		return nil, errors.New("it has no requests")
	}
	return t, nil
}

// add takes one line.
func (t *Trace) add(line []byte, first bool, opt ReadOptions, lease *budget.Lease) error {
	// An entry, its place in a list that grew, and its ids.
	if err := lease.Reserve(budget.Request, 256+4*int64(len(line))); err != nil {
		return err
	}
	var rec record
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields() // a field that isn't replayed would make the figures lie
	if err := dec.Decode(&rec); err != nil {
		return err
	}
	if dec.InputOffset() != int64(len(line)) {
		return errors.New("there is more than one JSON object on it")
	}
	if first && rec.Trace != nil {
		return t.describe(&rec, opt)
	}
	e, err := rec.entry(t.BlockTokens)
	if err != nil {
		return err
	}
	if err := lease.ReserveItems(budget.Request, uint64(len(e.Blocks)), nodeBytes); err != nil {
		return err
	}
	if last := len(t.Entries) - 1; last >= 0 && e.Arrival < t.Entries[last].Arrival {
		return fmt.Errorf("timestamp %v is before that of the request before it", *rec.Timestamp)
	}
	t.Entries = append(t.Entries, e)
	return nil
}

// describe takes the line that a trace may begin with.
func (t *Trace) describe(rec *record, opt ReadOptions) error {
	if rec.Timestamp != nil || rec.InputLength != nil || rec.OutputLength != nil || rec.HashIDs != nil {
		return errors.New("a line that describes the trace can't be a request, too")
	}
	if len(rec.About) > maxAbout {
		return fmt.Errorf("about has %d lines, more than %d", len(rec.About), maxAbout)
	}
	t.Name, t.About = *rec.Trace, rec.About
	if rec.BlockSize == nil {
		return nil
	}
	if err := within("block_size", *rec.BlockSize); err != nil {
		return err
	}
	if opt.BlockTokens == 0 {
		t.BlockTokens = *rec.BlockSize
	}
	return nil
}

func (rec *record) entry(block int) (e Entry, err error) {
	switch {
	case rec.Trace != nil || rec.About != nil || rec.BlockSize != nil:
		return e, errors.New("about and block_size belong on the first line, with a field trace")
	case rec.Timestamp == nil:
		return e, errors.New("timestamp is missing")
	case rec.InputLength == nil:
		return e, errors.New("input_length is missing")
	case rec.OutputLength == nil:
		return e, errors.New("output_length is missing")
	}
	ms := *rec.Timestamp
	if !(ms >= 0 && ms <= float64(maxArrival/time.Millisecond)) {
		return e, fmt.Errorf("timestamp %v is not between 0 and a year of milliseconds", ms)
	}
	if err := within("input_length", *rec.InputLength); err != nil {
		return e, err
	}
	if err := within("output_length", *rec.OutputLength); err != nil {
		return e, err
	}
	if most := (*rec.InputLength + block - 1) / block; len(rec.HashIDs) > most {
		return e, fmt.Errorf("%d hash_ids are more than the %d blocks of %d tokens in %d: another block size?", len(rec.HashIDs), most, block, *rec.InputLength)
	}
	e = Entry{Arrival: time.Duration(math.Round(ms * float64(time.Millisecond))), Input: *rec.InputLength, Output: *rec.OutputLength}
	if len(rec.HashIDs) > 0 {
		e.Blocks = append(make([]int64, 0, len(rec.HashIDs)), rec.HashIDs...)
	}
	return e, nil
}

func within(field string, n int) error {
	if n < 1 || n > maxTokens {
		return fmt.Errorf("%s is %d, it must lie in [1, %d]", field, n, maxTokens)
	}
	return nil
}

// Write writes the trace so that [Read] reads it, arrivals in whole milliseconds.
func (t *Trace) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if t.Name != "" {
		if err := enc.Encode(record{Trace: &t.Name, About: t.About, BlockSize: &t.BlockTokens}); err != nil {
			return err
		}
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		ms := float64(e.Arrival.Milliseconds())
		if err := enc.Encode(record{Timestamp: &ms, InputLength: &e.Input, OutputLength: &e.Output, HashIDs: e.Blocks}); err != nil {
			return err
		}
	}
	return nil
}

// Rate is the mean number of arrivals each second, 0 where all arrive at once.
func (t *Trace) Rate() float64 {
	n := len(t.Entries) - 1
	if n < 1 || t.Entries[n].Arrival == t.Entries[0].Arrival {
		return 0
	}
	return float64(n) / (t.Entries[n].Arrival - t.Entries[0].Arrival).Seconds()
}

// Shared is the share of the prompts' tokens that stood at the same place of an
// earlier prompt: what a cache that forgets nothing could answer.
func (t *Trace) Shared() float64 {
	type place struct{ parent, id int64 }
	type node struct {
		id     int64
		tokens int // the block may have been cut by the prompt's end
	}
	tree := map[place]node{}
	var shared, all int
	for i := range t.Entries {
		e := &t.Entries[i]
		all += e.Input
		var parent int64
		for j, id := range e.Blocks {
			at := place{parent, id}
			n, known := tree[at]
			if !known {
				n.id = int64(len(tree) + 1)
			}
			tokens := min(t.BlockTokens, e.Input-j*t.BlockTokens)
			shared += min(n.tokens, tokens)
			n.tokens = max(n.tokens, tokens)
			tree[at], parent = n, n.id
		}
	}
	return float64(shared) / float64(max(1, all))
}
