package procmem

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
)

const (
	// maxLine bounds a line that is read, most of which is a path. Longer ones
	// are skipped where nothing of interest can be in them.
	maxLine = 16 << 10
	// maxMappings bounds the mappings of files that are kept; Linux itself
	// allows 65,530 of all kinds unless told otherwise.
	maxMappings = 1 << 17
)

// lines calls f with each line, without its end, until f returns an error. One
// that is longer than maxLine is given as nil.
func lines(r io.Reader, f func(line []byte) error) error {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, more, err := b.ReadLine()
		for ; more && err == nil; _, more, err = b.ReadLine() {
			line = nil
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(line)
		}
		if err != nil {
			return err
		}
	}
}

// figure splits a line such as "Rss:    12 kB" into a key and bytes. ok is false
// for lines of any other kind.
func figure(line []byte) (key []byte, n int64, ok bool) {
	key, rest, _ := bytes.Cut(line, []byte(":"))
	digits, isKB := bytes.CutSuffix(bytes.TrimLeft(rest, " \t"), []byte(" kB"))
	if !isKB || len(digits) == 0 {
		return nil, 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' || n > math.MaxInt64>>10/10-1 {
			return nil, 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return key, n << 10, true
}

// field is the place of a figure of smaps, nil for those that aren't kept.
func (u *Usage) field(key []byte) *int64 {
	switch string(key) {
	case "Rss":
		return &u.Rss
	case "Pss":
		return &u.Pss
	case "Shared_Clean":
		return &u.SharedClean
	case "Shared_Dirty":
		return &u.SharedDirty
	case "Private_Clean":
		return &u.PrivateClean
	case "Private_Dirty":
		return &u.PrivateDirty
	case "Anonymous":
		return &u.Anonymous
	case "Swap":
		return &u.Swap
	}
	return nil
}

// parseRollup reads smaps_rollup.
func parseRollup(r io.Reader) (Usage, error) {
	var u Usage
	var any bool
	err := lines(r, func(line []byte) error {
		key, n, ok := figure(line)
		if !ok {
			return nil
		}
		if p := u.field(key); p != nil {
			*p, any = n, true
		}
		return nil
	})
	if err == nil && !any {
		err = ErrFormat
	}
	if err != nil {
		return Usage{}, err
	}
	return u, nil
}

// parseMappings reads smaps: for each mapping a line of maps, which begins with
// a lower-case digit, and lines of figures, which begin with a capital.
func parseMappings(r io.Reader) ([]Mapping, error) {
	var list []Mapping
	var last *Mapping // nil while the figures are of a mapping without a file
	err := lines(r, func(line []byte) error {
		if len(line) == 0 {
			return ErrFormat
		}
		if c := line[0]; c >= 'A' && c <= 'Z' {
			if key, n, ok := figure(line); ok && last != nil {
				last.set(key, n)
			}
			return nil
		}
		m, isFile, err := parseMapping(line, last)
		if err != nil || !isFile {
			last = nil
			return err
		}
		if len(list) == maxMappings {
			return ErrTooMany
		}
		list = append(list, m)
		last = &list[len(list)-1]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (m *Mapping) set(key []byte, n int64) {
	if p := m.Usage.field(key); p != nil {
		*p = n
	} else if string(key) == "FilePmdMapped" {
		m.FilePmdMapped = n
	}
}

// parseMapping reads "start-end perms offset major:minor inode   path". What was
// mapped before is given since a file's mappings follow each other, and can have
// their path in common.
func parseMapping(line []byte, before *Mapping) (m Mapping, isFile bool, err error) {
	var fields [5][]byte
	rest := line
	for i := range fields {
		fields[i], rest, _ = bytes.Cut(rest, []byte(" "))
	}
	lo, hi, _ := bytes.Cut(fields[0], []byte("-"))
	major, minor, _ := bytes.Cut(fields[3], []byte(":"))
	start, err1 := strconv.ParseUint(string(lo), 16, 64)
	end, err2 := strconv.ParseUint(string(hi), 16, 64)
	maj, err3 := strconv.ParseUint(string(major), 16, 32)
	mnr, err4 := strconv.ParseUint(string(minor), 16, 32)
	inode, err5 := strconv.ParseUint(string(fields[4]), 10, 64)
	if errors.Join(err1, err2, err3, err4, err5) != nil || end < start || len(fields[1]) != 4 {
		return Mapping{}, false, ErrFormat
	}
	path := bytes.TrimLeft(rest, " ")
	// What has no path, such as "[heap]" or "anon_inode:[io_uring]", is no file.
	if inode == 0 || !bytes.HasPrefix(path, []byte("/")) {
		return Mapping{}, false, nil
	}
	path, deleted := bytes.CutSuffix(path, []byte(" (deleted)"))
	m = Mapping{
		Start: uintptr(start), End: uintptr(end), Device: device(maj, mnr), Inode: inode,
		Deleted: deleted, Exec: fields[1][2] == 'x',
	}
	if before != nil && string(path) == before.Path {
		m.Path = before.Path
	} else {
		m.Path = strings.ReplaceAll(string(path), `\012`, "\n") // all that Linux escapes
	}
	return m, true, nil
}

// device is the number that stat gives for what maps writes in two.
func device(major, minor uint64) uint64 {
	return major&0xfffff000<<32 | major&0xfff<<8 | minor&0xffffff00<<12 | minor&0xff
}

// parseStatus reads status, which has all kinds of lines. A kernel's thread has
// no memory, and none of these.
func parseStatus(r io.Reader) (Resident, error) {
	var res Resident
	var seen int
	err := lines(r, func(line []byte) error {
		if !bytes.HasPrefix(line, []byte("Rss")) {
			return nil
		}
		key, n, ok := figure(line)
		if !ok {
			return ErrFormat
		}
		switch string(key) {
		case "RssAnon":
			res.Anon = n
		case "RssFile":
			res.File = n
		case "RssShmem":
			res.Shmem = n
		default:
			return nil
		}
		seen++
		return nil
	})
	if err == nil && seen != 3 {
		err = ErrFormat
	}
	if err != nil {
		return Resident{}, err
	}
	return res, nil
}
