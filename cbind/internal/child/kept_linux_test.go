package child

import (
	"testing"

	"golang.org/x/sys/unix"
)

// held is how many bytes of pages the memory takes.
func held(t *testing.T, m *memory) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(m.file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestMemoryKeepsPages: a span that is used time and again keeps its pages, and whatever was
// used, no more than keptBytes are kept.
func TestMemoryKeepsPages(t *testing.T) {
	m, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for _, c := range []struct{ spans, size, kept int64 }{
		{1, 3 << 20, 3 << 20},
		{1, 3 << 20, 3 << 20},
		{100, keptBytes / 20, keptBytes},
		{1, 2*keptBytes + 100, keptBytes},
	} {
		var spans []span
		for range c.spans {
			s, err := m.take(c.size)
			if err != nil {
				t.Fatal(err)
			}
			v, err := view[byte](m, s)
			if err != nil {
				t.Fatal(err)
			}
			for i := range v {
				v[i] = 1
			}
			spans = append(spans, s)
		}
		for _, s := range spans {
			m.free(s)
		}
		if got := held(t, m); got != c.kept {
			t.Errorf("after %d spans of %d bytes %d are kept, want %d", c.spans, c.size, got, c.kept)
		}
	}
}
