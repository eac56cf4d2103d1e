package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dunlin-go/dunlin/models/gguf"
)

// Resolve returns the path of the model that nameOrPath means: that of a file
// if there is one, else that of a catalogue name's file in the cache. The error
// is, or wraps, [ErrNotFound], [ErrNotPulled] or [ErrChecksum].
func Resolve(nameOrPath string) (string, error) {
	fi, err := os.Stat(nameOrPath)
	if err == nil && !fi.IsDir() {
		return nameOrPath, nil
	}
	m, known := Find(nameOrPath)
	switch {
	case known:
		dir, err := Dir()
		if err != nil {
			return "", err
		}
		return m.resolve(dir)
	case err == nil:
		return "", fmt.Errorf("%w: %s is a directory", ErrNotFound, nameOrPath)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	case looksLikePath(nameOrPath):
		return "", fmt.Errorf("%w: %s is neither a file nor a name of the catalogue", ErrNotFound, nameOrPath)
	}
	return "", fmt.Errorf("%w: %q is neither a file nor a name of the catalogue (which has %s)", ErrNotFound, nameOrPath, names())
}

// ID is the name that a model goes by in requests: its name in the catalogue,
// or its file's name without the extension and, of a model in several files,
// without the part.
func ID(nameOrPath string) string {
	if fi, err := os.Stat(nameOrPath); err != nil || fi.IsDir() {
		if m, ok := Find(nameOrPath); ok {
			return m.Name
		}
	}
	base := filepath.Base(gguf.TrimPart(nameOrPath))
	if ext := filepath.Ext(base); strings.EqualFold(ext, ".gguf") && len(ext) < len(base) {
		return strings.TrimSuffix(base, ext)
	}
	return base
}

// Dir is the cache directory. It need not exist yet.
func Dir() (string, error) {
	if dir := os.Getenv("DUNLIN_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no cache directory: %w; set DUNLIN_CACHE to one", err)
	}
	return filepath.Join(base, "dunlin", "models"), nil
}

// resolve returns the model's path under dir if the whole model is there.
func (m *Model) resolve(dir string) (string, error) {
	path := m.path(dir)
	ok, err := m.verify(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s is %w: run `dunlin pull %s`", m.Name, ErrNotPulled, m.Name)
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("%w: %s is not the catalogue's file: run `dunlin pull %s`", ErrChecksum, path, m.Name)
	}
	return path, nil
}

func (m *Model) path(dir string) string { return filepath.Join(dir, m.Name+".gguf") }

func looksLikePath(s string) bool {
	return strings.ContainsAny(s, `/\`) || strings.EqualFold(filepath.Ext(s), ".gguf")
}

func names() string {
	var all []string
	for _, m := range catalogue {
		all = append(all, strings.Join(append([]string{m.Name}, m.Aliases...), " or "))
	}
	return strings.Join(all, ", ")
}
