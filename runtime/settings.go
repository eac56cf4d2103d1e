package runtime

import (
	"fmt"
	"strings"
	"time"
)

// Settings are what a list of options asks for, for the openers of [RegisterScheme].
type Settings struct {
	ID            string // empty: the opener's choice
	ContextLength int    // 0: what the model was trained on
	Threads       int
	MaxSequences  int
	Queue         int
	StreamBuffer  int
	StallLimit    time.Duration
	MemoryLimit   int64 // math.MaxInt64: only the process's
}

// ReadSettings applies options over their defaults. Options that only the native
// engine knows are refused by name with [CodeUnsupported], others that can't be
// used with [CodeInvalidRequest].
func ReadSettings(opts ...Option) (Settings, error) {
	o, err := newOptions(opts)
	if err != nil {
		return Settings{}, err
	}
	d, err := newOptions(nil)
	if err != nil {
		return Settings{}, err
	}
	var native []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"WithActivations", o.activations != d.activations},
		{"WithHeartbeat", o.heartbeat != d.heartbeat},
		{"WithHighWater", o.highWater != d.highWater},
		{"WithKVCacheBytes", o.kvBytes != d.kvBytes},
		{"WithKVCacheShare", o.kvShare != d.kvShare},
		{"WithKVCacheType", o.kvType != d.kvType && o.activations == d.activations},
		{"WithKeepAlive", o.keepAlive != d.keepAlive},
		{"WithModelWeight", o.weight != d.weight},
		{"WithObserver", len(o.observers) > 0},
		{"WithPinned", o.pinned},
		{"WithPrefixIdle", o.prefixIdle != d.prefixIdle && o.keepAlive == 0},
		{"WithPrivatePrefixes", o.privatePrefixes},
		{"WithTenantWeight", len(o.tenantWeights) > 0},
		{"WithWarmUp", o.warmUp != d.warmUp},
	} {
		if f.set {
			native = append(native, f.name)
		}
	}
	if len(native) > 0 {
		return Settings{}, &Error{Code: CodeUnsupported, Err: fmt.Errorf("only the native engine has %s", strings.Join(native, ", "))}
	}
	return Settings{
		ID: o.id, ContextLength: o.contextLength, Threads: o.threads, MaxSequences: o.maxSequences, Queue: o.queue,
		StreamBuffer: o.streamBuffer, StallLimit: o.stallLimit, MemoryLimit: o.memoryLimit,
	}, nil
}
