package main

import (
	"fmt"
	goruntime "runtime"
	"runtime/debug"
)

// version is set by the linker for a build from a checkout (see the Makefile);
// without it the module's version is told, which go install records.
var version string

// versionCmd prints the version.
type versionCmd struct {
	JSON bool `help:"Print one JSON object."`
}

// Run prints it.
func (c *versionCmd) Run(std *stdio) error {
	v := struct {
		Version string `json:"version"`
		Go      string `json:"go"`
		OS      string `json:"os"`
		Arch    string `json:"arch"`
	}{versionText(), goruntime.Version(), goruntime.GOOS, goruntime.GOARCH}
	if c.JSON {
		return writeJSON(std.out, v)
	}
	_, err := fmt.Fprintf(std.out, "dunlin %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
	return err
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
