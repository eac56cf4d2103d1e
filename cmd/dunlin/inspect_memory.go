package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/dunlin-go/dunlin/internal/procmem"
)

// minModelBytes is how much of a file must be mapped for it to be taken for a
// model whatever its name: fetched ones are often named by their hash.
const minModelBytes = 16 << 20

// memoryUsage is memory in bytes.
type memoryUsage struct {
	Rss          int64 `json:"rss_bytes"`
	Pss          int64 `json:"pss_bytes"`
	Shared       int64 `json:"shared_bytes"`
	PrivateClean int64 `json:"private_clean_bytes"`
	PrivateDirty int64 `json:"private_dirty_bytes"`
	Anonymous    int64 `json:"anonymous_bytes"` // no file's: of the models' mappings, what was copied
	Swap         int64 `json:"swap_bytes"`
}

func newMemoryUsage(u procmem.Usage) *memoryUsage {
	return &memoryUsage{u.Rss, u.Pss, u.Shared(), u.PrivateClean, u.PrivateDirty, u.Anonymous, u.Swap}
}

// memoryRow is a process; one that can't be read has an error instead of figures.
type memoryRow struct {
	PID     int          `json:"pid"`
	Error   string       `json:"error,omitempty"`
	Command string       `json:"command,omitempty"`
	All     *memoryUsage `json:"all,omitempty"`
	Models  *memoryUsage `json:"models,omitempty"` // of All, what is of models' files
}

// modelRow is a model's file over all processes.
type modelRow struct {
	Path        string `json:"path"`
	Deleted     bool   `json:"deleted,omitempty"`
	MappedBytes int64  `json:"mapped_bytes"` // the most of a process, in whole pages
	Processes   int    `json:"processes"`
	Resident    int64  `json:"resident_bytes"` // the most of a process
	HugeBytes   int64  `json:"huge_bytes"`     // of that, in huge pages
	Pss         int64  `json:"pss_bytes"`
	Private     int64  `json:"private_bytes"`
	Anonymous   int64  `json:"anonymous_bytes"`
}

type memoryResult struct {
	Processes []memoryRow `json:"processes"`
	Models    []modelRow  `json:"models"`
	// Total has no Rss: it would count what is shared once a process.
	Total struct {
		Pss          int64 `json:"pss_bytes"`
		PrivateClean int64 `json:"private_clean_bytes"`
		PrivateDirty int64 `json:"private_dirty_bytes"`
		Anonymous    int64 `json:"anonymous_bytes"`
		ModelsPss    int64 `json:"models_pss_bytes"`
	} `json:"total"`

	byFile map[fileID]int // into Models
}

// fileID tells files apart, whatever they are called where a process runs.
type fileID struct{ device, inode uint64 }

func (c *inspectCmd) memory(ctx context.Context, std *stdio) error {
	if c.Full {
		return errors.New("--full is for the metadata of a model, not for --memory")
	}
	var pids []int
	for _, s := range c.Of {
		pid, err := strconv.Atoi(s)
		if err != nil || pid <= 0 {
			return fmt.Errorf("--memory takes ids of processes, not %q", s)
		}
		if !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	res := &memoryResult{Models: []modelRow{}, byFile: map[fileID]int{}}
	var errs error // of all processes that couldn't be read
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := res.add(pid)
		if errors.Is(err, errors.ErrUnsupported) {
			return errors.New("only Linux tells how much memory a process has of which file")
		}
		if err != nil {
			res.Processes = append(res.Processes, memoryRow{PID: pid, Error: err.Error()})
		}
		if errs == nil {
			errs = err
		} else if err != nil {
			errs = fmt.Errorf("%w; %w", errs, err)
		}
	}
	out := res.print
	if c.JSON {
		out = func(std *stdio) error { return writeJSON(std.out, res) }
	}
	if err := out(std); err != nil {
		return err
	}
	return errs
}

// add reads a process.
func (r *memoryResult) add(pid int) error {
	command, err := procmem.Command(pid)
	if err != nil {
		return processError(pid, err)
	}
	all, err := procmem.Rollup(pid)
	if err != nil {
		return processError(pid, err)
	}
	mappings, err := procmem.Mappings(pid)
	if err != nil {
		return processError(pid, err)
	}
	var models procmem.Usage
	for _, f := range modelFiles(mappings) {
		models.Add(f.usage)
		r.addModel(f)
	}
	r.Processes = append(r.Processes, memoryRow{PID: pid, Command: command, All: newMemoryUsage(all), Models: newMemoryUsage(models)})
	r.Total.Pss += all.Pss
	r.Total.PrivateClean += all.PrivateClean
	r.Total.PrivateDirty += all.PrivateDirty
	r.Total.Anonymous += all.Anonymous
	r.Total.ModelsPss += models.Pss
	return nil
}

func processError(pid int, err error) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("process %d isn't there: %w", pid, err)
	case errors.Is(err, syscall.ESRCH):
		return fmt.Errorf("process %d has no memory: it has ended, or is the kernel's: %w", pid, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("process %d isn't yours to look into: %w", pid, err)
	}
	return fmt.Errorf("process %d: %w", pid, err)
}

func (r *memoryResult) addModel(f mappedFile) {
	i, ok := r.byFile[f.id]
	if !ok {
		i = len(r.Models)
		r.byFile[f.id] = i
		r.Models = append(r.Models, modelRow{Path: f.path, Deleted: f.deleted})
	}
	m := &r.Models[i]
	m.MappedBytes = max(m.MappedBytes, f.mapped)
	m.Processes++
	m.Resident = max(m.Resident, f.usage.Rss)
	m.HugeBytes = max(m.HugeBytes, f.huge)
	m.Pss += f.usage.Pss
	m.Private += f.usage.Private()
	m.Anonymous += f.usage.Anonymous
}

// mappedFile is all that a process has mapped of a file.
type mappedFile struct {
	id            fileID
	path          string
	deleted, exec bool
	mapped, huge  int64
	usage         procmem.Usage
}

// modelFiles sums up the mappings of each file that is taken for a model. What
// the files contain isn't looked at: their paths are those of another process,
// and may be others here.
func modelFiles(mappings []procmem.Mapping) []mappedFile {
	var files []mappedFile
	index := map[fileID]int{}
	for _, m := range mappings {
		id := fileID{m.Device, m.Inode}
		i, ok := index[id]
		if !ok {
			i = len(files)
			index[id] = i
			files = append(files, mappedFile{id: id, path: m.Path, deleted: m.Deleted})
		}
		f := &files[i]
		f.exec = f.exec || m.Exec
		f.mapped += int64(m.End - m.Start)
		f.huge += m.FilePmdMapped
		f.usage.Add(m.Usage)
	}
	return slices.DeleteFunc(files, func(f mappedFile) bool { return !f.isModel() })
}

func (f *mappedFile) isModel() bool {
	name := strings.ToLower(path.Base(f.path))
	if strings.HasSuffix(name, ".gguf") {
		return true
	}
	isLibrary := f.exec || strings.HasSuffix(name, ".so") || strings.Contains(name, ".so.")
	// Shared memory looks like a file too.
	isMemory := strings.HasPrefix(f.path, "/dev/") || strings.HasPrefix(f.path, "/memfd:") || strings.HasPrefix(f.path, "/SYSV")
	return f.mapped >= minModelBytes && !isLibrary && !isMemory
}

func (r *memoryResult) print(std *stdio) error {
	if !slices.ContainsFunc(r.Processes, func(p memoryRow) bool { return p.Error == "" }) {
		return nil // the errors are printed by the caller
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "pid\tcommand\trss\tpss\tshared\tprivate clean\tprivate dirty\tanonymous\tmodels: rss\tpss\tanonymous")
	for _, p := range r.Processes {
		if p.Error != "" {
			fmt.Fprintf(w, "%d\tnot readable\n", p.PID)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.PID, printable(p.Command),
			humanBytes(p.All.Rss), humanBytes(p.All.Pss), humanBytes(p.All.Shared), humanBytes(p.All.PrivateClean),
			humanBytes(p.All.PrivateDirty), humanBytes(p.All.Anonymous), humanBytes(p.Models.Rss), humanBytes(p.Models.Pss), humanBytes(p.Models.Anonymous))
	}
	t := &r.Total
	fmt.Fprintf(w, "all\t\t\t%s\t\t%s\t%s\t%s\t\t%s\n", humanBytes(t.Pss), humanBytes(t.PrivateClean), humanBytes(t.PrivateDirty),
		humanBytes(t.Anonymous), humanBytes(t.ModelsPss))
	if err := w.Flush(); err != nil || len(r.Models) == 0 {
		return err
	}
	fmt.Fprintln(std.out)
	w = tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "model\tmapped\tprocesses\tresident\tin huge pages\tpss\tprivate\tanonymous")
	for _, m := range r.Models {
		name := printable(m.Path)
		if m.Deleted {
			name += " (deleted)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", name, humanBytes(m.MappedBytes), m.Processes,
			humanBytes(m.Resident), humanBytes(m.HugeBytes), humanBytes(m.Pss), humanBytes(m.Private), humanBytes(m.Anonymous))
	}
	return w.Flush()
}
