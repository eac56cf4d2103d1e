package runtime

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
)

// Option sets how a model is loaded.
type Option func(*options) error

// options are the settings of a model. Zero values are filled by defaults.
type options struct {
	id            string
	contextLength int
	threads       int
	maxSequences  int
	queue         int
	streamBuffer  int
	highWater     float64
	heartbeat     time.Duration
	stallLimit    time.Duration
	activations   Activations
	weight        float64
	kvType        KVCacheType
	memoryLimit   int64
	budget        *budget.Budget // the model's, under the process's

	kvBytes         int64   // 0: kvShare decides
	kvShare         float64 // of what the budget has left
	prefixIdle      time.Duration
	keepWindows     bool // for tests: layers with a window keep what is behind it
	privatePrefixes bool
	tenantWeights   map[string]float64
	observers       []Observer

	keepAlive time.Duration // 0 for no end
	pinned    bool
	warmUp    WarmUp
	progress  func(done, total int64)
}

// mapping is how the weights are mapped.
func (o *options) mapping() (opts []pool.Option) {
	if o.keepAlive > 0 {
		opts = append(opts, pool.KeepAlive(o.keepAlive))
	}
	if o.pinned {
		opts = append(opts, pool.Pinned())
	}
	return opts
}

// Bounds of the options.
const (
	maxThreads      = 1024
	maxMaxSequences = 1024
	maxQueue        = 1 << 20
	minStreamBuffer = 64
	maxStreamBuffer = 256
	minHeartbeat    = 10 * time.Millisecond
	maxHeartbeat    = 50 * time.Millisecond
)

// WithID sets the name that requests know the model by. The default is the
// file's name without its extension.
func WithID(id string) Option {
	return func(o *options) error {
		if id == "" {
			return errors.New("the id is empty")
		}
		o.id = id
		return nil
	}
}

// WithContextLength sets how many tokens of prompt and answer together a
// request may have. The default, and the most, is what the model was trained on.
func WithContextLength(n int) Option {
	return func(o *options) (err error) {
		o.contextLength, err = atLeastOne("context length", n, 1<<24)
		return err
	}
}

// WithThreads sets how many threads take part in a step. The default is
// GOMAXPROCS, and it is never more than that, nor than 1024.
func WithThreads(n int) Option {
	return func(o *options) (err error) {
		o.threads, err = atLeastOne("threads", n, maxThreads)
		return err
	}
}

// WithMaxSequences sets how many requests are computed at the same time, 1 to 1024, 32 by
// default. Others wait in the queue.
func WithMaxSequences(n int) Option {
	return func(o *options) (err error) {
		o.maxSequences, err = atLeastOne("max sequences", n, maxMaxSequences)
		return err
	}
}

// WithQueue sets how many requests may wait, 1 to 1048576, 1024 by default. Beyond it Start
// returns [CodeOverloaded].
func WithQueue(n int) Option {
	return func(o *options) (err error) {
		o.queue, err = atLeastOne("queue", n, maxQueue)
		return err
	}
}

// WithStallLimit sets how long a stream may stay unread while other requests
// wait for its place, 30 seconds by default; then it ends with [CodeClosed].
// While nobody waits, a stream may stay unread for ever.
func WithStallLimit(d time.Duration) Option {
	return func(o *options) error {
		if d <= 0 {
			return fmt.Errorf("the stall limit is %v, it must be above zero", d)
		}
		o.stallLimit = d
		return nil
	}
}

// WithStreamBuffer sets how many events a stream holds for its reader, 64 to
// 256, 64 by default. Each has a price of 256 bytes in the memory budget, 512
// with TopLogprobs, and more where the model has tokens of long texts.
func WithStreamBuffer(events int) Option {
	return func(o *options) error {
		if events < minStreamBuffer || events > maxStreamBuffer {
			return fmt.Errorf("the stream buffer is %d events, it must lie in [%d, %d]", events, minStreamBuffer, maxStreamBuffer)
		}
		o.streamBuffer = events
		return nil
	}
}

// WithHighWater sets at which share of a stream's buffer, in (0, 1], its reader
// holds up its own request, 0.75 by default: from so many unread events on it
// takes part in no steps, until the reader has taken half of them. Others go on
// meanwhile. A low share spends less on answers that may be given up; a high one
// lets the reader pause for longer.
func WithHighWater(share float64) Option {
	return func(o *options) error {
		if !(share > 0 && share <= 1) { // NaN fails too
			return fmt.Errorf("the high water is %s, it must lie in (0, 1]", number(share))
		}
		o.highWater = share
		return nil
	}
}

// WithHeartbeat makes [Stream.Recv] and [Stream.All] give an event of the kind
// [EventHeartbeat] after so long without news, 10 to 50 ms, so that a loop over
// the events can look at other things without a goroutine of its own. By
// default there are none.
func WithHeartbeat(d time.Duration) Option {
	return func(o *options) error {
		if d < minHeartbeat || d > maxHeartbeat {
			return fmt.Errorf("the heartbeat is %v, it must lie in [%v, %v]", d, minHeartbeat, maxHeartbeat)
		}
		o.heartbeat = d
		return nil
	}
}

// WithMemoryLimit gives the model a limit of its own under the process's one
// ([SetMemoryLimit]), in bytes: for the KV cache, working memory, vocabulary and
// requests, not for the mapped weights. What the model reserves counts under both
// limits. By default it has only the process's.
func WithMemoryLimit(bytes int64) Option {
	return func(o *options) error {
		if bytes < 1 {
			return fmt.Errorf("the memory limit is %d bytes, it must be above zero", bytes)
		}
		o.memoryLimit = bytes
		return nil
	}
}

// WithKVCacheBytes sets how many bytes the pages of keys and values may take;
// one page, of 32 tokens, there always is. Where they hold less than the context
// length, that is the context length. Without it [WithKVCacheShare] decides.
func WithKVCacheBytes(bytes int64) Option {
	return func(o *options) error {
		if bytes < 1 {
			return fmt.Errorf("the KV cache has %d bytes, it must be above zero", bytes)
		}
		o.kvBytes = bytes
		return nil
	}
}

// WithKVCacheShare sets which share of what the memory budget has left the
// pages of keys and values may take, in (0, 1), 0.5 by default. They never take
// more than a full context of [WithMaxSequences] requests, nor less than one.
// Memory is committed as pages are used.
func WithKVCacheShare(share float64) Option {
	return func(o *options) error {
		if !(share > 0 && share < 1) { // NaN fails too
			return fmt.Errorf("the share of the KV cache is %s, it must lie in (0, 1)", number(share))
		}
		o.kvShare = share
		return nil
	}
}

// KVCacheType is the type that keys and values are stored in.
type KVCacheType = tensor.DType

// The types of keys and values for [WithKVCacheType].
const (
	// KVCacheF16, the default, is float16.
	KVCacheF16 KVCacheType = tensor.F16
	// KVCacheQ8_0 is int8 with a float16 scale for each 32 elements of a head: pages
	// of little more than half the size. It changes results by about as much as int8
	// activations do.
	KVCacheQ8_0 KVCacheType = tensor.Q8_0
)

// WithKVCacheType sets the type of keys and values. [KVCacheQ8_0] is an error for
// models whose heads aren't a multiple of 32 elements, and with [ActivationsF32],
// which keeps float32.
func WithKVCacheType(t KVCacheType) Option {
	return func(o *options) error {
		if t != KVCacheF16 && t != KVCacheQ8_0 {
			return fmt.Errorf("the KV cache has no type %v, it has %v and %v", t, KVCacheF16, KVCacheQ8_0)
		}
		o.kvType = t
		return nil
	}
}

// WithPrefixIdle sets how long computed prompts are kept for others that begin
// alike while the model has nothing to do, 10 minutes by default. Then their
// memory goes back to the system. While it has, they are kept until their pages
// are needed.
func WithPrefixIdle(d time.Duration) Option {
	return func(o *options) error {
		if d <= 0 {
			return fmt.Errorf("the prefix idle time is %v, it must be above zero", d)
		}
		o.prefixIdle = d
		return nil
	}
}

// WithPrivatePrefixes keeps the computed prompts of tenants apart, as if each
// had a [Request.CacheSalt] of its own. By default all share them.
func WithPrivatePrefixes() Option {
	return func(o *options) error {
		o.privatePrefixes = true
		return nil
	}
}

// WithTenantWeight sets a tenant's share of what is computed, relative to those
// of other tenants whose requests wait at the same time: 1e-6 to 1e6, 1 by default. It is
// counted in tokens.
func WithTenantWeight(tenant string, weight float64) Option {
	return func(o *options) error {
		if err := validScheduling(tenant, ""); err != nil {
			return err
		}
		if !(weight >= 1e-6 && weight <= 1e6) { // NaN fails too
			return fmt.Errorf("the weight of tenant %q is %s, it must lie in [1e-6, 1e6]", tenant, number(weight))
		}
		if o.tenantWeights == nil {
			o.tenantWeights = map[string]float64{}
		}
		o.tenantWeights[tenant] = weight
		return nil
	}
}

// WithModelWeight sets how much a request of this model counts beside those of
// other models that the process computes at the same time: 0.001 to 1000, 1 by default. Each
// model gets the CPUs for a part of the time: its weight times the number of its requests
// that are being computed, over the sum of that for all models. So beside a
// model with 8 requests one with a single request takes a ninth, with weight 0.5
// a seventeenth.
func WithModelWeight(weight float64) Option {
	return func(o *options) error {
		if !(weight >= 1e-3 && weight <= 1e3) { // NaN fails too
			return fmt.Errorf("the model's weight is %s, it must lie in [0.001, 1000]", number(weight))
		}
		o.weight = weight
		return nil
	}
}

// Activations is the format of activations in products with quantised weights.
type Activations = tensor.Activations

// The formats of activations for [WithActivations].
const (
	// ActivationsInt8, the default, quantises activations to int8 in blocks
	// of 32 and stores keys and values as [WithKVCacheType] says.
	ActivationsInt8 = tensor.ActivationsInt8
	// ActivationsF32 is the slow reference: float32 throughout, keys and
	// values included.
	ActivationsF32 = tensor.ActivationsF32
)

// WithActivations sets the format of activations.
func WithActivations(a Activations) Option {
	return func(o *options) error {
		if a != ActivationsInt8 && a != ActivationsF32 {
			return fmt.Errorf("no activations %d", a)
		}
		o.activations = a
		return nil
	}
}

func atLeastOne(what string, n, most int) (int, error) {
	if n < 1 || n > most {
		return 0, fmt.Errorf("%s is %d, it must lie in [1, %d]", what, n, most)
	}
	return n, nil
}

// newOptions applies opts over the defaults and reports every problem at once.
func newOptions(opts []Option) (options, error) {
	o := options{
		memoryLimit: budget.Unlimited,
		threads:     min(goruntime.GOMAXPROCS(0), maxThreads), maxSequences: 32, queue: 1024, weight: 1, streamBuffer: minStreamBuffer, highWater: 0.75, stallLimit: 30 * time.Second,
		kvType: KVCacheF16, kvShare: 0.5, prefixIdle: 10 * time.Minute, progress: func(int64, int64) {},
	}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(&o))
	}
	if o.activations == ActivationsF32 {
		if o.kvType == KVCacheQ8_0 {
			errs = append(errs, fmt.Errorf("a KV cache of %v with float32 activations, which keep float32", o.kvType))
		}
		o.kvType = tensor.F32
	}
	if err := errors.Join(errs...); err != nil {
		return o, &Error{Code: CodeInvalidRequest, Err: oneLineError{err}}
	}
	if o.keepAlive > 0 {
		o.prefixIdle = min(o.prefixIdle, o.keepAlive)
	}
	o.budget = budget.Process().Child(o.memoryLimit)
	return o, nil
}
