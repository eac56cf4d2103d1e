package cbind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/dunlin-go/dunlin/cbind/internal/child"
	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// Serve is what the program dunlin-bridge does: it is the child of an isolated model. args
// are what the parent starts it with. The process exits when the parent is gone.
func Serve(args []string) error {
	const want = 3
	if len(args) != want {
		return errors.New("this program is started by others, with a library, a Python and a number of threads")
	}
	threads, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("threads: %w", err)
	}
	paths := device.Paths{Library: args[0], Python: args[1]}
	return child.Serve(
		func() (device.Device, error) { return startHere(context.Background(), paths, threads) },
		func() { os.Exit(0) }, //nolint:forbidigo // whatever torch is at, nobody waits for it
	)
}
