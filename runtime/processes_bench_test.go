package runtime_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// loadsChild is set in the processes that BenchmarkLoadBesideAnother starts.
const loadsChild = "DUNLIN_TEST_LOADS_CHILD"

// TestLoadsChild is no test: it is what those processes run. For each line of
// their input they load the model, generate a token, tell how many nanoseconds
// that took, and close the model.
func TestLoadsChild(t *testing.T) {
	path := os.Getenv(loadsChild)
	if path == "" {
		t.Skip("runs in the processes of BenchmarkLoadBesideAnother")
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		d, err := loadToFirstToken(t, path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("took", d.Nanoseconds())
	}
}

func loadToFirstToken(t testing.TB, path string) (time.Duration, error) {
	begin := time.Now()
	m, err := runtime.Load(t.Context(), path)
	if err != nil {
		return 0, err
	}
	_, err = runtime.Generate(t.Context(), m, runtime.Request{Prompt: "The capital of France is", MaxTokens: 1})
	d := time.Since(begin)
	if cerr := m.Close(); err == nil {
		err = cerr
	}
	return d, err
}

// loader is such a process.
type loader struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startLoader(b *testing.B, path string) *loader {
	b.Helper()
	l := &loader{cmd: exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestLoadsChild$")}
	l.cmd.Env = append(os.Environ(), loadsChild+"="+path)
	l.cmd.Stderr = os.Stderr
	var err error
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	l.out = bufio.NewScanner(out)
	if err := l.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return l
}

// load is the time of one more.
func (l *loader) load(b *testing.B) time.Duration {
	b.Helper()
	if _, err := io.WriteString(l.in, "\n"); err != nil {
		b.Fatal(err)
	}
	for l.out.Scan() {
		if digits, ok := strings.CutPrefix(l.out.Text(), "took "); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return time.Duration(n)
		}
		b.Log(l.out.Text())
	}
	b.Fatal("the process measured nothing")
	return 0
}

func (l *loader) end(b *testing.B) {
	b.Helper()
	l.in.Close()
	for l.out.Scan() { // what go test says at the end
	}
	if err := l.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLoadBesideAnother is the time from Load to the first token while
// another process serves the same file: in a process that has just been
// started, and in one that has loaded and closed the model before.
func BenchmarkLoadBesideAnother(b *testing.B) {
	for _, model := range []struct{ name, env string }{{"SmolLM2", "DUNLIN_TEST_MODEL"}, {"Gemma3", "DUNLIN_TEST_GEMMA"}} {
		b.Run(model.name, func(b *testing.B) {
			other := realModelAt(b, model.env)
			firstToken(b, other, randomTokens(64))
			path := os.Getenv(model.env)
			warm := startLoader(b, path)
			warm.load(b)
			var first, again []time.Duration
			var ratios []float64
			for b.Loop() {
				fresh := startLoader(b, path)
				first = append(first, fresh.load(b))
				fresh.end(b)
				again = append(again, warm.load(b))
				ratios = append(ratios, float64(first[len(first)-1])/float64(again[len(again)-1]))
			}
			warm.end(b)
			slices.Sort(ratios)
			for _, q := range []float64{0.25, 0.5, 0.75} {
				p := fmt.Sprintf("p%.0f", 100*q)
				b.ReportMetric(milliseconds(quantile(first, q)), "first-"+p+"-ms")
				b.ReportMetric(milliseconds(quantile(again, q)), "again-"+p+"-ms")
				b.ReportMetric(ratios[min(int(q*float64(len(ratios))), len(ratios)-1)], p+"-x")
			}
		})
	}
}
