//go:build !linux

package child

import (
	"context"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

var errSystem = &device.Error{Status: device.Unsupported, Message: "the bridge to Transformers runs on Linux, on amd64 and arm64"}

// Start says that there are no children on this system.
func Start(context.Context, device.Paths, int) (device.Device, error) { return nil, errSystem }

// Serve says the same.
func Serve(func() (device.Device, error), func()) error { return errSystem }
