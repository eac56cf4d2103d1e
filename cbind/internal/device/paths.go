package device

import (
	"cmp"
	"os"
	"path/filepath"
)

// Names in the directory that `make bridge` fills.
const (
	libraryName = "libtransformers.so"
	pythonName  = "venv/bin/python"
	helperName  = "dunlin-bridge"
)

// Paths are the files of the bridge.
type Paths struct {
	Library string // libtransformers
	Python  string // the virtual environment's interpreter
	Helper  string // dunlin-bridge
}

// Find finds the files: in dir, else in the directory that DUNLIN_BRIDGE names, else
// where `make bridge` puts them, dunlin/bridge in [os.UserCacheDir].
func Find(dir string) (Paths, error) {
	dir = cmp.Or(dir, os.Getenv("DUNLIN_BRIDGE"))
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return Paths{}, &SetupError{What: "there is no directory for the bridge", Err: err}
		}
		dir = filepath.Join(cache, "dunlin", "bridge")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Paths{}, &SetupError{What: "the bridge's directory can't be found", Err: err}
	}
	p := Paths{Library: filepath.Join(dir, libraryName), Python: filepath.Join(dir, pythonName), Helper: filepath.Join(dir, helperName)}
	for what, path := range map[string]string{"the bridge's library": p.Library, "the bridge's Python": p.Python} {
		if _, err := os.Stat(path); err != nil {
			return p, &SetupError{What: what + " isn't there", Err: err}
		}
	}
	return p, nil
}
