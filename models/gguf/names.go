package gguf

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// extension is what the name of a part ends in.
const extension = ".gguf"

// PartPath is the path of one part, counted from 1, of a model that would have
// the given path in one file: PartPath("m.gguf", 2, 3) is
// "m-00002-of-00003.gguf", as llama.cpp has it.
func PartPath(path string, part, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d%s", strings.TrimSuffix(path, extension), part, count, extension)
}

// TrimPart is the path that the model of a part would have in one file:
// "m.gguf" for "m-00002-of-00003.gguf". Other paths stay as they are.
func TrimPart(path string) string {
	if whole, _, _, ok := cutPart(path); ok {
		return whole
	}
	return path
}

// PartPaths is the paths of all the files of the model to which the file at
// path belongs, in order. That is path alone, unless it is named like a part
// ([PartPath]). Any of the parts may be named: they mean the same model, and
// whoever has a directory of them may pick one. Whether the files are there is
// not looked at; a name that can't be, such as part 3 of 2, is refused.
func PartPaths(path string) ([]string, error) {
	whole, part, count, ok := cutPart(path)
	if !ok {
		return []string{path}, nil
	}
	name := quote(filepath.Base(path))
	switch {
	case count > MaxParts:
		return nil, fmt.Errorf("gguf: %s: %w: by its name a model in %d parts, at most %d are read", name, ErrLimit, count, MaxParts)
	case part < 1 || part > count:
		return nil, fmt.Errorf("gguf: %s: %w: by its name part %d of %d", name, ErrFormat, part, count)
	}
	paths := make([]string, count)
	for i := range paths {
		paths[i] = PartPath(whole, i+1, len(paths))
	}
	return paths, nil
}

// cutPart takes a part's path apart. Its numbers have five digits, or more
// where they are larger; numbers of another form belong to a usual name.
func cutPart(path string) (whole string, part, count uint64, ok bool) {
	stem, ok := strings.CutSuffix(path, extension)
	if !ok {
		return "", 0, 0, false
	}
	stem, count, ok = cutNumber(stem, "-of-")
	if !ok {
		return "", 0, 0, false
	}
	stem, part, ok = cutNumber(stem, "-")
	return stem + extension, part, count, ok
}

// cutNumber takes the number behind the last separator off a name.
func cutNumber(name, separator string) (before string, n uint64, ok bool) {
	at := strings.LastIndex(name, separator)
	if at < 0 {
		return "", 0, false
	}
	digits := name[at+len(separator):]
	n, err := strconv.ParseUint(digits, 10, 64)
	return name[:at], n, err == nil && digits == fmt.Sprintf("%05d", n)
}
