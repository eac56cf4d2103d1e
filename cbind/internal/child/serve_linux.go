package child

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync/atomic"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// server is the child's half.
type server struct {
	dev   device.Device
	model device.Model
	mem   *memory
	out   *json.Encoder
	stop  atomic.Bool // the generation that runs is to end
}

// Serve answers the parent on the descriptors that it has left, until the parent is gone:
// then ended is called from another goroutine, whatever runs. start is called
// with the first model.
func Serve(start func() (device.Device, error), ended func()) error {
	socket := os.NewFile(socketFD, "socket")
	mem, err := mapMemory(os.NewFile(memoryFD, "memory"))
	if err != nil {
		return err
	}
	s := &server{mem: mem, out: json.NewEncoder(socket)}
	requests := make(chan *request)
	go func() {
		in := json.NewDecoder(socket)
		for {
			req := &request{}
			if err := in.Decode(req); err != nil {
				ended()
				return
			}
			if req.Op == opStop {
				s.stop.Store(true)
				continue
			}
			requests <- req
		}
	}()
	for req := range requests {
		var r *reply
		if req.Op == opOpen && s.dev == nil {
			s.dev, err = start()
		}
		if err == nil {
			r, err = s.do(req)
		}
		if err != nil {
			r, err = &reply{Error: failed(err)}, nil
		}
		if err := s.out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// failed is an error as the parent gets it.
func failed(err error) *device.Error {
	var own *device.Error
	if errors.As(err, &own) {
		return own
	}
	return &device.Error{Status: device.Exception, Message: err.Error()}
}

func (s *server) do(req *request) (*reply, error) {
	ctx := context.Background()
	if s.model == nil && req.Op != opOpen {
		return nil, device.ErrClosed
	}
	ids := make([][]int32, len(req.Rows))
	for i, r := range req.Rows {
		var err error
		if ids[i], err = view[int32](s.mem, r.Tokens); err != nil {
			return nil, err
		}
	}
	if needed, ok := map[string]bool{opInfer: true, opDecode: true, opGenerate: true}[req.Op]; ok && needed && len(ids) != 1 {
		return nil, errors.New("a call has no ids")
	}
	switch req.Op {
	case opOpen:
		var err error
		if s.model, err = s.dev.Open(ctx, req.Path, *req.Options); err != nil {
			return nil, err
		}
		info := s.model.Info()
		return &reply{Info: &info}, nil
	case opInfer:
		t, err := s.model.Infer(ctx, ids[0], req.Count, req.Kind)
		return s.give(t, req.Out, err)
	case opStep:
		rows := make([]device.Row, len(ids))
		for i, r := range req.Rows {
			rows[i] = device.Row{Sequence: r.Sequence, Past: r.Past, Tokens: ids[i]}
		}
		t, err := s.model.Step(rows)
		return s.give(t, req.Out, err)
	case opDrop:
		return &reply{}, s.model.Drop(req.Sequences)
	case opEncode:
		found, err := s.model.Encode(ctx, string(req.Text), req.Add, req.Parse)
		if err != nil {
			return nil, err
		}
		return put(s.mem, req.Out, found)
	case opDecode:
		text, err := s.model.Decode(ctx, ids[0], req.Parse)
		return &reply{Text: []byte(text)}, err
	case opTemplate:
		text, err := s.model.Template(ctx, req.Text, req.Add)
		return &reply{Text: []byte(text)}, err
	case opGenerate:
		s.stop.Store(false)
		return &reply{}, s.model.Generate(ctx, ids[0], req.Count, func(id int32) bool {
			return s.out.Encode(&reply{Token: &id}) == nil && !s.stop.Load()
		})
	case opVocabulary:
		v, err := s.model.Vocabulary(ctx)
		return &reply{Vocabulary: v}, err
	}
	return nil, errors.New("there is no operation " + req.Op)
}

// give puts a tensor into the shared memory.
func (s *server) give(t *device.Tensor, out span, err error) (*reply, error) {
	if err != nil {
		return nil, err
	}
	defer t.Release()
	r, err := put(s.mem, out, t.Data)
	if err != nil {
		return nil, err
	}
	r.Shape = t.Shape
	r.InputAt = int64(t.InputAt) - int64(s.mem.address(0))
	return r, nil
}

// put copies a result to where the parent wants it.
func put[T int32 | float32](m *memory, out span, data []T) (*reply, error) {
	const size = 4
	dst, err := view[T](m, out)
	if err != nil {
		return nil, err
	}
	if len(data) > len(dst) {
		return nil, &device.Error{Status: device.NoMemory, Message: "the result is larger than the place that the parent has for it"}
	}
	copy(dst, data)
	return &reply{Size: size * int64(len(data))}, nil
}
