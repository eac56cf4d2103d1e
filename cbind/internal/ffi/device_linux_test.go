//go:build linux && (amd64 || arm64)

package ffi

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/testmodel"
)

func start(t *testing.T) (*Device, string) {
	t.Helper()
	path := testmodel.Bridge(t, "tiny")
	paths, err := device.Find("")
	if err != nil {
		t.Fatal(err)
	}
	d, err := Start(paths, 2)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

// TestModelThatRaises: an exception of torch's is an error with its class, of the call
// alone.
func TestModelThatRaises(t *testing.T) {
	d, path := start(t)
	m, err := d.Open(t.Context(), path, device.Options{DType: "float32"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var failed *device.Error
	_, err = m.Infer(t.Context(), []int32{1, 1 << 20}, 1, device.Logits)
	if !errors.As(err, &failed) || failed.Status != device.Exception || failed.Type != "IndexError" || strings.ContainsRune(err.Error(), '\n') {
		t.Errorf("an unknown id gave %#v", err)
	}
	step := func(sequence uint64, past int, tokens ...int32) error {
		out, err := m.Step([]device.Row{{Sequence: sequence, Past: past, Tokens: tokens}})
		out.Release()
		return err
	}
	if err := step(1, 0, 3, 4, 5); err != nil {
		t.Fatal(err)
	}
	if err := step(1, 3, 1<<20); !errors.As(err, &failed) || failed.Type != "IndexError" {
		t.Errorf("an unknown id in a step gave %v", err)
	}
	// The sequence has gone with it: it isn't continued with half of its layers.
	if err := step(1, 3, 6); !errors.As(err, &failed) || failed.Status != device.NotFound {
		t.Errorf("a sequence that failed went on: %v", err)
	}
	if err := step(2, 0); !errors.As(err, &failed) || failed.Status != device.Invalid {
		t.Errorf("a row without tokens gave %v", err)
	}
	if _, err := m.Encode(t.Context(), "\xff\xfe", false, false); !errors.As(err, &failed) || failed.Status != device.Invalid {
		t.Errorf("invalid UTF-8 gave %v", err)
	}
	if err := step(3, 0, 3, 4); err != nil {
		t.Errorf("the model is of no use any more: %v", err)
	}
}

// TestVersion: a library of another version is refused before anything is called.
func TestVersion(t *testing.T) {
	start(t)
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("there is no C compiler")
	}
	dir := t.TempDir()
	source := "unsigned transformers_abi_version(void) { return 99; }\n"
	for _, name := range strings.Fields("init shutdown open close infer_sync step drop generate encode decode chat_template vocabulary release release_text borrowed") {
		source += "void transformers_" + name + "(void) { __builtin_trap(); }\n"
	}
	for name, text := range map[string]string{"version": source, "symbols": "unsigned transformers_abi_version(void) { return 1; }\n"} {
		c, so := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so")
		if err := os.WriteFile(c, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, err := loadLibrary(so)
		var setup *device.SetupError
		if !errors.As(err, &setup) || !strings.Contains(err.Error(), "make bridge") || name == "version" && !strings.Contains(err.Error(), "version 99") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestShutdown ends the interpreter of a process of its own.
func TestShutdown(t *testing.T) {
	const variable = "DUNLIN_TEST_SHUTDOWN"
	if os.Getenv(variable) == "" {
		start(t) // or skip
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestShutdown$", "-test.v")
		cmd.Env = append(os.Environ(), variable+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	d, path := start(t)
	m, err := d.Open(t.Context(), path, device.Options{DType: "float32"})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := m.Infer(t.Context(), []int32{3, 4}, 1, device.Logits)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Shutdown(); err != nil {
			t.Fatal(err)
		}
	}
	var failed *device.Error
	if _, err := m.Infer(t.Context(), []int32{3}, 1, device.Logits); !errors.As(err, &failed) || failed.Status != device.NotRunning {
		t.Errorf("after the shutdown: %v", err)
	}
	kept.Release()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Start(device.Paths{Library: process.paths.Library}, 1); !errors.Is(err, device.ErrClosed) {
		t.Errorf("a second start: %v", err)
	}
}
