package gguf

import (
	"os"
	goruntime "runtime"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// TestModel reads a whole model file, the one that DUNLIN_TEST_MODEL names, and
// compares the heap that stays in use with the texts that it holds.
func TestModel(t *testing.T) {
	path := os.Getenv("DUNLIN_TEST_MODEL")
	if path == "" {
		t.Skip("DUNLIN_TEST_MODEL names no GGUF file")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := budget.New(1 << 30)
	var before, after goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	f, err := Parse(data, b.Lease())
	if err != nil {
		t.Fatal(err)
	}
	goruntime.GC()
	goruntime.ReadMemStats(&after)
	defer f.Close()
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)

	texts, arrays := int64(len(f.text)), int64(0)
	for key := range f.Keys() {
		if s, ok := f.Strings(key); ok {
			texts += int64(len(s.text))
			arrays += int64(4 * s.Len())
		} else if x, ok := f.Ints(key); ok {
			arrays += int64(x.Len() * 4)
		} else if x, ok := f.Floats(key); ok {
			arrays += int64(x.Len() * 4)
		}
	}
	t.Logf("%d bytes, %d keys, %d tensors, data at %d: heap grew by %d, reserved %d, texts %d and arrays %d",
		len(data), f.Len(), f.TensorCount(), f.DataOffset(), grown, b.Used(), texts, arrays)
	if limit := texts + arrays + (texts+arrays)/8 + 128<<10; grown > limit {
		t.Errorf("the heap grew by %d bytes, want at most %d", grown, limit)
	}
	var tensors uint64
	for info := range f.Tensors() {
		tensors += info.Bytes
	}
	if end := f.DataOffset() + tensors; end > uint64(len(data)) {
		t.Errorf("the tensors take %d bytes of %d", end, len(data))
	}
	if again := readAll(t, data); f.Len() == 0 || again == nil || again.Len() != f.Len() {
		t.Errorf("%d keys", f.Len())
	}
	goruntime.KeepAlive(data)
}
