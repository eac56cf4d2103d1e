package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/testmodel"
)

func TestMain(m *testing.M) {
	if os.Getenv("EMBED_AS_COMMAND") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func embed(t *testing.T, model string) (out, errs string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, model)
	cmd.Env = append(os.Environ(), "EMBED_AS_COMMAND=1")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

func TestEmbed(t *testing.T) {
	model := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(model, testmodel.Llama(testmodel.Config{Seed: 1}), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, errs, err := embed(t, model); err != nil || out == "" || errs != "" {
		t.Errorf("stdout %q, stderr %q, %v", out, errs, err)
	}
	if out, errs, err := embed(t, model+".none"); err == nil || out != "" || strings.Count(errs, "\n") != 1 {
		t.Errorf("without a model: stdout %q, stderr %q, %v", out, errs, err)
	}
}

func TestEmbedRealModel(t *testing.T) {
	model := os.Getenv("DUNLIN_TEST_MODEL")
	if model == "" {
		t.Skip("DUNLIN_TEST_MODEL is not set; `make test` fetches the model and sets it")
	}
	if out, errs, err := embed(t, model); err != nil || !strings.Contains(out, "100") {
		t.Errorf("stdout %q, stderr %q, %v", out, errs, err)
	}
}
