package procmem

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseRollup(t *testing.T) {
	got, err := parseRollup(strings.NewReader(sample(t, "smaps_rollup")))
	want := Usage{102400 << 10, 60000 << 10, 50000 << 10, 10 << 10, 46000 << 10, 6390 << 10, 6300 << 10, 12 << 10}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if n := got.Private() + got.Shared(); n != got.Rss {
		t.Errorf("private and shared are %d, in all %d", n, got.Rss)
	}
	for _, bad := range []string{"", "Rss:", "Rss: x kB", "Rss: kB", "Rss: 1 MB", "Rss: -1 kB", "Rss: 99999999999999999999 kB", "\x00"} {
		if u, err := parseRollup(strings.NewReader(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q gave %+v, %v", bad, u, err)
		}
	}
}

func TestParseMappings(t *testing.T) {
	got, err := parseMappings(iotest.OneByteReader(strings.NewReader(sample(t, "smaps"))))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{
			Start: 0x55ca84e59000, End: 0x55ca84e5a000, Path: "/usr/bin/python3.11", Device: 0xfe00, Inode: 18500, Exec: true,
			Usage: Usage{Rss: 4096, Pss: 4096, PrivateClean: 4096},
		},
		{
			Start: 0x7f5349208000, End: 0x7f5349218000, Path: "/srv/models/gone.gguf", Device: 0xfe00, Inode: 9980288, Deleted: true,
			Usage: Usage{Rss: 65536, Pss: 65536, PrivateDirty: 65536},
		},
		{
			Start: 0x7f5349218000, End: 0x7f5349228000, Path: "/srv/models/new\nline.gguf", Device: 0xfe00, Inode: 9980287,
			Usage: Usage{Rss: 65536, Pss: 65536, PrivateDirty: 65536},
		},
		{
			Start: 0x7f5349228000, End: 0x7f5349328000, Path: "/srv/models/a model.gguf", Device: 0xfe00, Inode: 9980286,
			Usage: Usage{1024 << 10, 448 << 10, 512 << 10, 256 << 10, 192 << 10, 64 << 10, 32 << 10, 8 << 10}, FilePmdMapped: 512 << 10,
		},
		{Start: 0x7f5349fbc000, End: 0x7f5349fbe000, Path: "/memfd:weights", Device: 1, Inode: 1024, Deleted: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseMappingsOfOthers(t *testing.T) {
	const head = "1000-2000 r--p 00000000 fe:00 7    "
	for _, none := range []string{
		"", "1000-2000 rw-p 00000000 00:00 0 ", "1000-2000 rw-p 00000000 00:00 0\nRss: 4 kB\n",
		head + "anon_inode:[io_uring]\nRss: 4 kB\n", head,
	} {
		if m, err := parseMappings(strings.NewReader(none)); len(m) != 0 || err != nil {
			t.Errorf("%q gave %+v, %v", none, m, err)
		}
	}
	for _, bad := range []string{
		"\n", "1000", "2000-1000 r--p 00000000 fe:00 7 /a", "1000-2000 r--p 00000000 fe:00 x /a", "x-y r--p 0 0:0 7 /a",
		"1000-2000 r--p 00000000 fe 7 /a", "1000-2000 r-p 00000000 fe:00 7 /a", head + "/a\n\nRss: 4 kB\n",
		head + "/" + strings.Repeat("a", maxLine) + "\nRss: 4 kB\n", "\x00",
	} {
		if m, err := parseMappings(strings.NewReader(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%.80q gave %+v, %v", bad, m, err)
		}
	}
	// Figures that aren't known here leave those before them.
	m, err := parseMappings(strings.NewReader(head + "/a\nRss: 4 kB\nRss: many\nNew: 8 kB\n" + "2000-3000 rw-p 0 00:00 0 [heap]\nRss: 12 kB\n"))
	if err != nil || len(m) != 1 || m[0].Usage != (Usage{Rss: 4 << 10}) {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := parseMappings(strings.NewReader(strings.Repeat(head+"/a\n", maxMappings+1))); !errors.Is(err, ErrTooMany) {
		t.Errorf("with too many: %v", err)
	}
}

func TestParseStatus(t *testing.T) {
	want := Resident{Anon: 1092 << 10, File: 1888 << 10, Shmem: 0}
	text := sample(t, "status")
	if got, err := parseStatus(strings.NewReader(text)); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	// Someone may be in many groups.
	long := strings.Replace(text, "Groups:", "Groups:"+strings.Repeat("\t1000000", maxLine), 1)
	if got, err := parseStatus(strings.NewReader(long)); err != nil || got != want {
		t.Errorf("with a long line: %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "Name:\tkthreadd\n", "RssAnon: 1 kB\nRssFile: 1 kB\n", "RssAnon: 1 kB\nRssFile: 1\nRssShmem: 1 kB\n"} {
		if got, err := parseStatus(strings.NewReader(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q gave %+v, %v", bad, got, err)
		}
	}
}

func TestReadErrors(t *testing.T) {
	gone := errors.New("no such process")
	r := func() *failing { return &failing{"RssAnon: 1 kB\n", gone} }
	if _, err := parseRollup(r()); !errors.Is(err, gone) {
		t.Errorf("rollup: %v", err)
	}
	if m, err := parseMappings(r()); !errors.Is(err, gone) || m != nil {
		t.Errorf("mappings: %v, %v", m, err)
	}
	if _, err := parseStatus(r()); !errors.Is(err, gone) {
		t.Errorf("status: %v", err)
	}
}

// failing is a file whose process ends while it is read.
type failing struct {
	text string
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.text == "" {
		return 0, f.err
	}
	n := copy(p, f.text)
	f.text = f.text[n:]
	return n, nil
}

// FuzzParse: any text gives figures that are not negative, or an error.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"smaps_rollup", "smaps", "status"} {
		f.Add(sample(f, name))
	}
	f.Add("")
	f.Add("Rss: 9007199254740991 kB\nRssAnon: 9223372036854775807 kB\n")
	f.Add("0-ffffffffffffffff r-xp 0 fffff:fffff 18446744073709551615 /\\012 (deleted)\nFilePmdMapped: 4 kB")
	f.Fuzz(func(t *testing.T, text string) {
		if u, err := parseRollup(strings.NewReader(text)); err == nil {
			check(t, u)
		}
		maps, err := parseMappings(strings.NewReader(text))
		if err != nil && maps != nil {
			t.Errorf("%d mappings beside %v", len(maps), err)
		}
		for _, m := range maps {
			check(t, m.Usage)
			if m.End < m.Start || !strings.HasPrefix(m.Path, "/") || m.Inode == 0 || m.FilePmdMapped < 0 {
				t.Errorf("%+v", m)
			}
		}
		if r, err := parseStatus(strings.NewReader(text)); err == nil && min(r.Anon, r.File, r.Shmem) < 0 {
			t.Errorf("%+v", r)
		}
	})
}

func check(t *testing.T, u Usage) {
	t.Helper()
	if min(u.Rss, u.Pss, u.SharedClean, u.SharedDirty, u.PrivateClean, u.PrivateDirty, u.Anonymous, u.Swap) < 0 {
		t.Errorf("%+v", u)
	}
}
