package bridge

import (
	"errors"
	"fmt"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

var errClosed = &runtime.Error{Code: runtime.CodeClosed, Err: device.ErrClosed}

// codes are those of failed calls; an exception of Python's depends on the call.
var codes = map[device.Status]runtime.Code{
	device.Invalid: runtime.CodeInvalidRequest, device.NotFound: runtime.CodeModelNotFound, device.Unsupported: runtime.CodeUnsupported,
	device.NoMemory: runtime.CodeResourceExhausted, device.NotRunning: runtime.CodeClosed,
}

// coded gives an error of a device its code; exception is that of Python's exceptions.
func coded(exception runtime.Code, err error) error {
	var failed *device.Error
	var setup *device.SetupError
	code := runtime.CodeInternal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &setup):
		code = runtime.CodeUnsupported
	case errors.As(err, &failed):
		code = exception
		if c, ok := codes[failed.Status]; ok {
			code = c
		}
	case errors.Is(err, device.ErrClosed):
		code = runtime.CodeClosed
	case errors.Is(err, device.ErrBusy):
		code = runtime.CodeOverloaded
	case errors.Is(err, budget.ErrExceeded):
		code = runtime.CodeResourceExhausted
	}
	return runtime.NewError(code, err)
}

// field is an error about a request's field.
func field(name string, err error) error {
	var own *runtime.Error
	if errors.As(err, &own) && own.Field == "" && (own.Code == runtime.CodeInvalidRequest || own.Code == runtime.CodeContextLength || own.Code == runtime.CodeUnsupported) {
		return &runtime.Error{Code: own.Code, Field: name, Err: own.Err}
	}
	return err
}

func invalid(name, format string, args ...any) error {
	return &runtime.Error{Code: runtime.CodeInvalidRequest, Field: name, Err: fmt.Errorf(format, args...)}
}
