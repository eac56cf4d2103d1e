package tensor

import (
	"fmt"
	"unsafe"

	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// Tensor is a matrix of weights where it lies in memory, row by row. Its bytes
// belong to the mapping they were taken from, which whoever uses the tensor
// must hold.
type Tensor struct {
	Name string // as the file calls it
	Type DType
	Rows int // outputs of a product; 1 for a vector
	Cols int // elements of a row, its inputs

	data   []byte
	row    int // bytes of a row
	format kernel.Format
}

// kernelFormats are the dtypes that can be computed with, see [DType.Computes].
var kernelFormats = map[DType]kernel.Format{
	F32: kernel.F32, F16: kernel.F16, BF16: kernel.BF16,
	Q8_0: kernel.Q8_0, Q4_0: kernel.Q4_0, Q4_1: kernel.Q4_1, Q5_0: kernel.Q5_0, Q5_1: kernel.Q5_1,
	Q2_K: kernel.Q2K, Q3_K: kernel.Q3K, Q4_K: kernel.Q4K, Q5_K: kernel.Q5K, Q6_K: kernel.Q6K,
	IQ4NL: kernel.IQ4NL, IQ4XS: kernel.IQ4XS, MXFP4: kernel.MXFP4,
}

// New makes a tensor of rows x cols over data. It returns an error where the
// dtype has no kernels, where a matrix's rows aren't whole blocks of 32
// elements, or where data has another size or isn't aligned for its elements.
func New(name string, dtype DType, rows, cols int, data []byte) (*Tensor, error) {
	format, ok := kernelFormats[dtype]
	switch {
	case !ok:
		return nil, fmt.Errorf("tensor %q: weights of type %v are not supported", name, dtype)
	case rows < 1 || cols < 1 || !dtype.Fits(cols):
		return nil, fmt.Errorf("tensor %q: %d x %d elements are not whole blocks of %v", name, rows, cols, dtype)
	case rows > 1 && cols%kernel.BlockLen != 0:
		return nil, fmt.Errorf("tensor %q: rows of %d elements are not supported, only multiples of %d", name, cols, kernel.BlockLen)
	case len(data)%dtype.RowBytes(cols) != 0 || len(data)/dtype.RowBytes(cols) != rows:
		return nil, fmt.Errorf("tensor %q: %d bytes are not %d x %d elements of %v", name, len(data), rows, cols, dtype)
	case dtype.Block() == 1 && uintptr(unsafe.Pointer(unsafe.SliceData(data)))%uintptr(dtype.BlockBytes()) != 0:
		return nil, fmt.Errorf("tensor %q: its bytes are not aligned for %v", name, dtype)
	}
	return &Tensor{Name: name, Type: dtype, Rows: rows, Cols: cols, data: data, row: dtype.RowBytes(cols), format: format}, nil
}

// Bytes is the size of the tensor in memory.
func (t *Tensor) Bytes() int { return len(t.data) }

// floats views an F32 tensor as numbers. The view lives as long as the
// tensor's mapping.
func (t *Tensor) floats() []float32 {
	if t.Type != F32 {
		panic(fmt.Sprintf("tensor: %q is %v, not F32", t.Name, t.Type))
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(t.data))), t.Rows*t.Cols)
}

// Floats copies the tensor's numbers to the heap, whatever its dtype. Its price
// is 4 bytes an element.
func (t *Tensor) Floats() []float32 {
	out := make([]float32, t.Rows*t.Cols)
	if t.Type == F32 {
		copy(out, t.floats())
		return out
	}
	kernel.Sets()[0].Dequantize(t.format, out, t.data)
	return out
}
