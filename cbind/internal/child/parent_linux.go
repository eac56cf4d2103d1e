package child

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// parent opens models in children.
type parent struct {
	paths   device.Paths
	threads int
}

// Start checks that the child's program is there. A child is started for each model.
func Start(_ context.Context, paths device.Paths, threads int) (device.Device, error) {
	if _, err := os.Stat(paths.Helper); err != nil {
		return nil, &device.SetupError{What: "the program that isolates the bridge isn't there", Err: err}
	}
	return &parent{paths: paths, threads: threads}, nil
}

// model is a child and what is needed to start it anew.
type model struct {
	parent  *parent
	path    string
	options device.Options
	exec    *device.Executor
	mem     *memory
	info    device.Info

	mu     sync.Mutex
	child  *process // the one that runs or ran last, nil for none yet
	closed bool
	lost   int64
	why    error

	// The executor's own.
	restart restart
	spans   []span
}

// Open implements [device.Device].
func (p *parent) Open(ctx context.Context, path string, o device.Options) (device.Model, error) {
	mem, err := newMemory()
	if err != nil {
		return nil, err
	}
	m := &model{parent: p, path: path, options: o, exec: device.NewExecutor(), mem: mem}
	_, err = device.Call(ctx, m.exec, func() (struct{}, error) {
		_, err := m.running()
		return struct{}{}, err
	}, nil)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Info implements [device.Model].
func (m *model) Info() device.Info { return m.info }

// Lost implements [device.Model].
func (m *model) Lost() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost, m.why
}

// Close implements [device.Model]. It doesn't wait for a step: the child is ended.
func (m *model) Close() error {
	m.mu.Lock()
	child := m.child
	m.closed = true
	m.mu.Unlock()
	m.exec.Stop()
	if child != nil {
		child.end()
	}
	<-m.exec.Done()
	m.mem.close()
	return nil
}

// running is the child, which is started if there is none. It is called on the executor's
// thread.
func (m *model) running() (*process, error) {
	m.mu.Lock()
	child, closed := m.child, m.closed
	m.mu.Unlock()
	switch {
	case closed:
		return nil, device.ErrClosed
	case child != nil && !child.dead():
		return child, nil
	case child != nil:
		m.lose(child.crash())
	}
	if err := m.restart.may(); err != nil {
		return nil, err
	}
	child, err := startProcess(m.parent, m.mem)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.child = child
	closed = m.closed
	m.mu.Unlock()
	if closed { // meanwhile: Close didn't see it
		child.end()
		return nil, device.ErrClosed
	}
	r, err := child.ask(&request{Op: opOpen, Path: m.path, Options: &m.options}, nil)
	if err != nil {
		child.end()
		m.mu.Lock()
		m.child = nil
		m.mu.Unlock()
		return nil, err
	}
	m.info = *r.Info
	return child, nil
}

// lose notes that the child's sequences are gone, and why.
func (m *model) lose(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.child != nil {
		m.child = nil
		m.lost++
		m.why = why
		m.restart.died(why)
	}
}

// ask makes a call on the executor's thread, and puts the ids of its rows where the child
// sees them.
func (m *model) ask(req *request, ids [][]int32, each func(id int32) bool) (*reply, error) {
	child, err := m.running()
	if err != nil {
		return nil, err
	}
	defer m.forget()
	for i, list := range ids {
		s, err := m.mem.take(4 * int64(len(list)))
		if err != nil {
			return nil, err
		}
		m.spans = append(m.spans, s)
		exact := span{s.At, 4 * int64(len(list))}
		place, err := view[int32](m.mem, exact)
		if err != nil {
			return nil, err
		}
		copy(place, list)
		req.Rows[i].Tokens = exact
	}
	r, err := child.ask(req, each)
	if err != nil && child.dead() {
		m.lose(err)
	}
	return r, err
}

// forget frees the places of a call's ids.
func (m *model) forget() {
	for _, s := range m.spans {
		m.mem.free(s)
	}
	m.spans = m.spans[:0]
}

// tensor makes a call whose result is a tensor of so many elements.
func (m *model) tensor(req *request, ids [][]int32, elements int64) (*device.Tensor, error) {
	out, err := m.mem.take(4 * elements)
	if err != nil {
		return nil, err
	}
	req.Out = out
	r, err := m.ask(req, ids, nil)
	if err != nil {
		m.mem.free(out)
		return nil, err
	}
	data, err := view[float32](m.mem, span{out.At, min(max(r.Size, 0), out.Size)})
	if err != nil {
		m.mem.free(out)
		return nil, err
	}
	t := &device.Tensor{Data: data, Shape: r.Shape, Free: func() { m.mem.free(out) }}
	if r.InputAt >= 0 && r.InputAt < memoryBytes {
		t.InputAt = m.mem.address(r.InputAt)
	}
	if n := product(r.Shape); n != int64(len(data)) {
		t.Release()
		return nil, errors.New("the child gave a tensor of another shape than its data have")
	}
	return t, nil
}

func product(shape []int) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= int64(d)
	}
	return n
}

// Infer implements [device.Model].
func (m *model) Infer(ctx context.Context, ids []int32, rows int, kind device.Kind) (*device.Tensor, error) {
	if err := device.CheckShape(len(ids), rows); err != nil {
		return nil, &device.Error{Status: device.Invalid, Message: err.Error()}
	}
	return device.Call(ctx, m.exec, func() (*device.Tensor, error) {
		width := m.info.Vocabulary
		if kind == device.Hidden {
			width = m.info.Hidden
		}
		return m.tensor(&request{Op: opInfer, Rows: make([]row, 1), Count: rows, Kind: kind}, [][]int32{ids}, int64(len(ids))*int64(width))
	}, (*device.Tensor).Release)
}

// Step implements [device.Model].
func (m *model) Step(rows []device.Row) (*device.Tensor, error) {
	return device.Must(m.exec, func() (*device.Tensor, error) {
		req, ids := &request{Op: opStep}, make([][]int32, len(rows))
		for i, r := range rows {
			req.Rows = append(req.Rows, row{Sequence: r.Sequence, Past: r.Past})
			ids[i] = r.Tokens
		}
		return m.tensor(req, ids, int64(len(rows))*int64(m.info.Vocabulary))
	})
}

// Drop implements [device.Model].
func (m *model) Drop(sequences []uint64) error {
	_, err := device.Must(m.exec, func() (struct{}, error) {
		m.mu.Lock()
		there := m.child != nil && !m.child.dead() // a dead one has dropped them
		m.mu.Unlock()
		if !there {
			return struct{}{}, nil
		}
		_, err := m.ask(&request{Op: opDrop, Sequences: slices.Clone(sequences)}, nil, nil)
		return struct{}{}, err
	})
	return err
}

// Encode implements [device.Model].
func (m *model) Encode(ctx context.Context, text string, add, parse bool) ([]int32, error) {
	return device.Call(ctx, m.exec, func() ([]int32, error) {
		const more = 64
		out, err := m.mem.take(4 * (4*int64(len(text)) + more)) // normalising may lengthen a text
		if err != nil {
			return nil, err
		}
		defer m.mem.free(out)
		r, err := m.ask(&request{Op: opEncode, Text: []byte(text), Add: add, Parse: parse, Out: out}, nil, nil)
		if err != nil {
			return nil, err
		}
		ids, err := view[int32](m.mem, span{out.At, min(max(r.Size, 0), out.Size)})
		return append([]int32{}, ids...), err
	}, nil)
}

// Decode implements [device.Model].
func (m *model) Decode(ctx context.Context, ids []int32, skipSpecial bool) (string, error) {
	if len(ids) == 0 {
		return "", nil
	}
	return m.text(ctx, &request{Op: opDecode, Rows: make([]row, 1), Parse: skipSpecial}, [][]int32{ids})
}

// Template implements [device.Model].
func (m *model) Template(ctx context.Context, messages []byte, generationPrompt bool) (string, error) {
	return m.text(ctx, &request{Op: opTemplate, Text: messages, Add: generationPrompt}, nil)
}

func (m *model) text(ctx context.Context, req *request, ids [][]int32) (string, error) {
	return device.Call(ctx, m.exec, func() (string, error) {
		r, err := m.ask(req, ids, nil)
		if err != nil {
			return "", err
		}
		return strings.Clone(string(r.Text)), nil
	}, nil)
}

// Generate implements [device.Model].
func (m *model) Generate(ctx context.Context, ids []int32, maxTokens int, each func(id int32) bool) error {
	_, err := device.Call(ctx, m.exec, func() (struct{}, error) {
		_, err := m.ask(&request{Op: opGenerate, Rows: make([]row, 1), Count: maxTokens}, [][]int32{ids},
			func(id int32) bool { return ctx.Err() == nil && each(id) })
		return struct{}{}, err
	}, nil)
	return err
}

// Vocabulary implements [device.Model].
func (m *model) Vocabulary(ctx context.Context) (*device.Vocabulary, error) {
	return device.Call(ctx, m.exec, func() (*device.Vocabulary, error) {
		r, err := m.ask(&request{Op: opVocabulary}, nil, nil)
		if err != nil {
			return nil, err
		}
		if r.Vocabulary == nil || len(r.Vocabulary.Offsets) != len(r.Vocabulary.Kinds)+1 {
			return nil, errors.New("the child gave no vocabulary")
		}
		return r.Vocabulary, nil
	}, nil)
}
