package procmem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwnFile maps a file, writes to a part of it, and finds both in the figures.
func TestOwnFile(t *testing.T) {
	page := os.Getpagesize()
	path := filepath.Join(t.TempDir(), "a model\nof two lines.gguf")
	if err := os.WriteFile(path, make([]byte, 64*page), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil { // what isn't on the disk yet is dirty
		t.Fatal(err)
	}
	before, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, 64*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(data)
	var sum byte
	for i := 0; i < len(data); i += page {
		sum += data[i]
	}
	for i := 0; i < 8; i++ {
		data[i*page] = sum + 1
	}

	all, err := Mappings(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(m Mapping) bool { return m.Path == path })
	if i < 0 {
		t.Fatalf("%q isn't among %+v", path, all)
	}
	m, n := all[i], int64(len(data))
	if m.Device != st.Dev || m.Inode != st.Ino || m.Deleted || m.Exec || int64(m.End-m.Start) != n {
		t.Errorf("got %+v, stat says %d, %d", m, st.Dev, st.Ino)
	}
	if u, written := m.Usage, int64(8*page); u.Rss != n || u.Pss != n || u.PrivateDirty != written || u.Anonymous != written || u.PrivateClean != n-written {
		t.Errorf("of %d bytes, %d written to: %+v", n, written, u)
	}
	if !slices.ContainsFunc(all, func(m Mapping) bool { return m.Exec }) {
		t.Errorf("no program among %+v", all)
	}
	u, err := Rollup(0)
	if err != nil || u.Rss < n || u.Pss < n || u.PrivateDirty < int64(8*page) || u.Anonymous < int64(8*page) || u.Anonymous > u.Rss {
		t.Errorf("in all %+v, %v", u, err)
	}
	if name, err := Command(0); err != nil || name != "procmem.test" {
		t.Errorf("this is %q, %v", name, err)
	}
	after, err := Self()
	if err != nil || after.Anon == 0 || after.File == 0 || before.File == 0 {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if all, err = Mappings(0); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(all, func(m Mapping) bool { return m.Path == path }); i < 0 || !all[i].Deleted {
		t.Errorf("after the file was deleted: %+v", all)
	}
}

func TestEndedProcess(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Rollup(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rollup: %v", err)
	}
	if _, err := Mappings(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mappings: %v", err)
	}
}

// What has no memory: a process that nobody has waited for yet, and a thread of
// the kernel.
func TestNoMemory(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // it ends by itself
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{cmd.Process.Pid, 2} {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || len(b) > 0 {
			continue // in a container 2 is a process like others
		}
		if u, err := Rollup(pid); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("rollup of %d: %+v, %v", pid, u, err)
		}
		if name, err := Command(pid); err != nil || name == "" {
			t.Errorf("%d is called %q, %v", pid, name, err)
		}
	}
}

func TestOtherUser(t *testing.T) {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/1", &st); err != nil {
		t.Skip(err) // hidepid
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = 65534
	}
	if int(st.Uid) == uid {
		t.Skip("the first process is ours too")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		goruntime.LockOSThread() // for ever: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			// For this thread only, which the system call's own wrapper isn't.
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				t.Error(errno)
				return
			}
		}
		if u, err := Rollup(1); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("rollup: %+v, %v", u, err)
		}
		if m, err := Mappings(1); !errors.Is(err, fs.ErrPermission) || m != nil {
			t.Errorf("mappings: %v, %v", m, err)
		}
	})
	wg.Wait()
}

func TestSelfAllocates(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		if _, err := Self(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 8 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSelf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Self(); err != nil {
			b.Fatal(err)
		}
	}
}
