//go:build !linux || !(amd64 || arm64)

package ffi

import (
	"context"
	"errors"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

var errSystem = &device.Error{Status: device.Unsupported, Message: "the bridge to Transformers runs on Linux, on amd64 and arm64"}

// Device is libtransformers in this process: on this system there is none.
type Device struct{}

// Start says that there is none.
func Start(device.Paths, int) (*Device, error) { return nil, errSystem }

// Shutdown does nothing.
func Shutdown() error { return nil }

// Open implements [device.Device].
func (*Device) Open(context.Context, string, device.Options) (device.Model, error) {
	return nil, errors.ErrUnsupported
}
