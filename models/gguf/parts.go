package gguf

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// MaxParts is how many files a model may have.
const MaxParts = 1024

// The keys of a model in several files: the part's number from 0, how many
// parts there are, and how many tensors they have together.
const (
	splitNoKey      = "split.no"
	splitCountKey   = "split.count"
	splitTensorsKey = "split.tensors.count"
)

// Part describes one of the files that a model lies in.
type Part struct {
	Version    uint32
	Bytes      uint64 // the file's size
	Alignment  uint64 // of its tensors' data
	DataOffset uint64 // where its tensors' data begin
	Tensors    int
}

// ParseParts is [Parse] for a model in several files, each in memory on its own
// and given in order; [PartPaths] has their names. The first part's keys are
// the model's, and its tensors are those of all the parts. What the parts say of
// each other must agree: a part that is not there, in another's place or of a
// model with other counts is refused. Parts of two models that agree even in
// these can't be told apart.
func ParseParts(parts [][]byte, lease *budget.Lease) (*File, error) {
	parsed := false
	defer func() { // also where reading the mapping faults
		if !parsed {
			lease.Close()
		}
	}()
	f, err := parseParts(parts, lease)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	parsed = true
	return f, nil
}

func parseParts(parts [][]byte, lease *budget.Lease) (*File, error) {
	switch n := len(parts); {
	case n == 0:
		return nil, fmt.Errorf("%w: there is no file at all", ErrMissing)
	case n > MaxParts:
		return nil, fmt.Errorf("%w: %d files, at most %d are read", ErrLimit, n, MaxParts)
	}
	f := &File{lease: lease, parts: make([]Part, len(parts)), data: append([][]byte(nil), parts...)}
	parsers, heads := make([]parser, len(parts)), make([]metadata, len(parts))
	var tensors uint64 // can't overflow: each lies in memory
	for i := range parts {
		parsers[i] = parser{data: parts[i], lease: lease}
		if err := parsers[i].head(&f.parts[i], &heads[i]); err != nil {
			return nil, f.in(i, err)
		}
		tensors += uint64(f.parts[i].Tensors)
	}
	if err := f.checkSplit(heads, tensors); err != nil {
		return nil, err
	}
	f.metadata = heads[0]

	if err := reserveTable(lease, tensors, tensorEntryBytes); err != nil {
		return nil, fmt.Errorf("%d tensors: %w", tensors, err)
	}
	f.tensors, f.byName = make([]tensorEntry, tensors), make([]uint32, tensors)
	rest := f.tensors
	for i := range parts {
		n := f.parts[i].Tensors
		if err := parsers[i].tensors(rest[:n], uint16(i)); err != nil {
			return nil, f.in(i, err)
		}
		rest = rest[n:]
	}
	if err := f.copyNames(); err != nil {
		return nil, err
	}
	first := 0
	for i := range parts {
		if err := f.place(&f.parts[i], first, parsers[i].pos); err != nil {
			return nil, f.in(i, err)
		}
		first += f.parts[i].Tensors
	}
	return f, index(f.byName, "tensor", f.tensorName)
}

// in says in which part an error was found, where there are several.
func (f *File) in(part int, err error) error {
	if len(f.parts) == 1 {
		return err
	}
	return fmt.Errorf("part %d of %d: %w", part+1, len(f.parts), err)
}

// split is what a part says of the whole.
type split struct{ no, count, tensors uint64 }

// checkSplit holds what the parts say of the whole against each other and
// against what is there.
func (f *File) checkSplit(heads []metadata, tensors uint64) error {
	says := make([]split, len(heads))
	for i := range heads {
		if err := heads[i].split(&says[i]); err != nil {
			return f.in(i, err)
		}
	}
	have, count := uint64(len(heads)), says[0].count
	switch {
	case have == 1 && count <= 1:
		return nil // the usual file; merged ones have a count of 0
	case count > MaxParts:
		return fmt.Errorf("%w: a model in %d parts, at most %d are read", ErrLimit, count, MaxParts)
	case count > have:
		return missing(says)
	case count < have:
		return fmt.Errorf("%w: %s is %d, and %d files are given", ErrFormat, splitCountKey, count, have)
	}
	for i, s := range says {
		var err error
		switch {
		case s.count != count:
			err = fmt.Errorf("%w: %s is %d, the first part says %d", ErrFormat, splitCountKey, s.count, count)
		case s.no != uint64(i):
			err = fmt.Errorf("%w: %s is %d, not %d: it is another part", ErrFormat, splitNoKey, s.no, i)
		case s.tensors != says[0].tensors:
			err = fmt.Errorf("%w: %s is %d, the first part says %d", ErrFormat, splitTensorsKey, s.tensors, says[0].tensors)
		default:
			err = heads[i].sameAs(&heads[0])
		}
		if err != nil {
			return f.in(i, err)
		}
	}
	if says[0].tensors != tensors {
		return fmt.Errorf("%w: %s is %d, and the parts have %d", ErrFormat, splitTensorsKey, says[0].tensors, tensors)
	}
	return nil
}

// split reads the keys of a split; what isn't there is 0.
func (m *metadata) split(s *split) error {
	return cmp.Or(m.count(splitNoKey, &s.no), m.count(splitCountKey, &s.count), m.count(splitTensorsKey, &s.tensors))
}

// count reads a number that may be missing.
func (m *metadata) count(key string, v *uint64) error {
	e, ok := m.find(key)
	if !ok {
		return nil
	}
	if *v, ok = e.uint(); !ok {
		return fmt.Errorf("%w: %s is not a number from 0 on", ErrFormat, key)
	}
	return nil
}

// sameAs refuses a key that the first part doesn't have or gives another value.
// As a rule later parts have no keys but those of the split; a part that says
// more is about another model, or says something that nobody would read.
func (m *metadata) sameAs(first *metadata) error {
	for i := range m.entries {
		e, key := &m.entries[i], m.key(uint32(i))
		switch key {
		case splitNoKey, splitCountKey, splitTensorsKey, alignmentKey: // looked at, or its own
			continue
		}
		if other, ok := first.find(key); !ok || !reflect.DeepEqual(m.valueOf(e), first.valueOf(other)) {
			return fmt.Errorf("%w: the first part doesn't say the same of the key %s", ErrFormat, quote(key))
		}
	}
	return nil
}

// missing names the files that are not there, by the end of their names.
func missing(says []split) error {
	const most = 4 // more names don't tell more
	count := int(says[0].count)
	there := make([]bool, count)
	for _, s := range says {
		if s.no < uint64(count) {
			there[s.no] = true
		}
	}
	var names []string
	n := 0
	for i := range there {
		if there[i] {
			continue
		}
		if n++; n <= most {
			names = append(names, PartPath("", i+1, count))
		}
	}
	text := strings.Join(names, ", ")
	if n > most {
		text += fmt.Sprintf(" and %d more", n-most)
	}
	return fmt.Errorf("%w: of the model's %d files there is no %s", ErrMissing, count, text)
}
