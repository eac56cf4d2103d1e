package child

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// process is a child that runs or has ended.
type process struct {
	cmd    *exec.Cmd
	socket *os.File
	in     *json.Decoder
	out    *json.Encoder
	stderr *tail
	exited chan struct{} // closed when it was waited for
	how    string        // valid then
}

// startProcess starts a child that has the other end of a socket and the memory. It has
// a process group of its own, so that a Ctrl-C at the terminal is the parent's.
func startProcess(p *parent, mem *memory) (*process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "bridge"), os.NewFile(uintptr(pair[1]), "bridge")
	defer theirs.Close()
	c := &process{
		socket: ours, in: json.NewDecoder(ours), out: json.NewEncoder(ours), stderr: &tail{}, exited: make(chan struct{}),
		cmd: exec.Command(p.paths.Helper, p.paths.Library, p.paths.Python, strconv.Itoa(p.threads)),
	}
	c.cmd.ExtraFiles = []*os.File{theirs, mem.file}
	c.cmd.Stderr = c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, &device.SetupError{What: "the program that isolates the bridge doesn't start", Err: err}
	}
	go func() {
		err := c.cmd.Wait()
		c.how = "exit status 0"
		if err != nil {
			c.how = err.Error()
		}
		close(c.exited)
		_ = c.socket.Close() // nobody is at its other end
	}()
	return c, nil
}

// ask sends a request and waits for its reply. each gets the tokens of a generation.
func (c *process) ask(req *request, each func(id int32) bool) (*reply, error) {
	if err := c.out.Encode(req); err != nil {
		return nil, c.gone()
	}
	stopped := false
	for {
		r := &reply{}
		if err := c.in.Decode(r); err != nil {
			return nil, c.gone()
		}
		switch {
		case r.Error != nil:
			return nil, r.Error
		case r.Token == nil:
			return r, nil
		case !stopped && !each(*r.Token):
			stopped = true
			if err := c.out.Encode(&request{Op: opStop}); err != nil {
				return nil, c.gone()
			}
		}
	}
}

// gone is why nothing comes of the child any more. One that has only closed its socket, or
// talks nonsense, is ended.
func (c *process) gone() error {
	const patience = time.Second
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.end()
	}
	return c.crash()
}

func (c *process) dead() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// crash says how the child ended.
func (c *process) crash() error { return &device.CrashError{How: c.how, Stderr: c.stderr.line()} }

// end ends the child and waits for it.
func (c *process) end() {
	_ = c.socket.Close() // which tells it to end
	_ = c.cmd.Process.Kill()
	<-c.exited
}

// restart says when a child that keeps dying may be started again.
type restart struct {
	deaths int
	next   time.Time
	last   time.Time // when one was started
	why    error
}

// The pauses between starts, and after how long a child that died had worked.
const (
	firstPause = 100 * time.Millisecond
	longest    = 10 * time.Second
	worked     = 30 * time.Second
)

func (r *restart) died(why error) {
	now := time.Now()
	if now.Sub(r.last) > worked {
		r.deaths = 0
	}
	r.deaths++
	r.next = now.Add(min(firstPause<<min(r.deaths-1, 10), longest))
	r.why = why
	if r.deaths == 1 {
		r.next = now // once is no habit
	}
}

// may reports whether a child may be started now.
func (r *restart) may() error {
	now := time.Now()
	if left := r.next.Sub(now); left > 0 {
		return fmt.Errorf("%w (it died %d times and isn't started for another %v)", r.why, r.deaths, left.Round(time.Millisecond))
	}
	r.last = now
	return nil
}

// tail keeps the end of what a child writes.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write keeps the last bytes.
func (t *tail) Write(p []byte) (int, error) {
	const most = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - most; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// line is the last line that isn't empty.
func (t *tail) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.buf), []byte("\n"))
	return strings.ToValidUTF8(string(bytes.TrimSpace(lines[len(lines)-1])), "\uFFFD")
}
