package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/sched"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// Model is a native model: a mapped file and the engine that computes it. It
// implements [Generator], [Tokenizer], [Templater], [Scorer] and [StatsReader]
// and is safe for concurrent use.
type Model struct {
	vocabulary
	info     Info
	template chatTemplate
	engine   *engine

	handle    *pool.Handle
	warming   *warming // the engine's, once there is one
	lease     *budget.Lease
	closeOnce sync.Once
	closeErr  error
}

// minBatchTokens is the least number of tokens that a step has room for.
const minBatchTokens = 256

// build makes everything that the file describes. On an error the caller closes
// the model.
func (m *Model) build(ctx context.Context, f *gguf.File, o *options) error {
	spans, err := models.FirstUse(f, m.lease)
	if err != nil {
		return err
	}
	m.warming = newWarming(m.handle, spans)
	if o.warmUp != WarmUpNone {
		m.warming.begin()
	}
	tok, err := tokenizer.New(metadataSource{f}, m.lease)
	if err != nil {
		return err
	}
	m.vocabulary = vocabulary{tok: tok, budget: o.budget}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	limits := models.Limits{Tokens: max(minBatchTokens, o.maxSequences), Logits: o.maxSequences}
	model, err := models.New(f, limits, m.lease)
	if err != nil {
		return err
	}
	cfg := model.Config()
	if tok.Size() > cfg.Vocabulary {
		return fmt.Errorf("%w: %d tokens and only %d rows of embeddings", models.ErrInvalid, tok.Size(), cfg.Vocabulary)
	}
	if o.contextLength == 0 {
		o.contextLength = cfg.ContextLength
	}
	if o.contextLength > cfg.ContextLength {
		return invalid("context_length", "the context length is %d, the model was trained on %d", o.contextLength, cfg.ContextLength)
	}
	m.template = newChatTemplate(f, tok, o.budget, m.lease)
	name, _ := f.String("general.name")
	m.info = Info{
		ID: o.id, Name: clip(name), Architecture: cfg.Architecture, Quantization: cfg.Quantization, Parameters: cfg.Parameters,
		FileBytes: m.handle.Size(), ContextLength: o.contextLength, Vocabulary: cfg.Vocabulary,
	}
	if m.engine, err = newEngine(model, limits, m.handle, m.warming, tok, m.lease, o); err != nil {
		return err
	}
	m.info.ContextLength = m.engine.contextLength
	return nil
}

// maxNameBytes is how much of a model's own name is shown.
const maxNameBytes = 200

// clip copies the beginning of a text from a file, valid UTF-8.
func clip(s string) string {
	return strings.ToValidUTF8(strings.Clone(s[:min(len(s), maxNameBytes)]), "")
}

// Close ends what is running with [CodeClosed], waits for the engine to stop
// and gives the memory back. It may be called more than once. An error is one of
// unmapping, with [CodeInternal].
func (m *Model) Close() error {
	m.closeOnce.Do(func() {
		if m.engine != nil {
			m.closeErr = m.engine.close()
		} else {
			m.warming.close()
		}
		m.closeErr = NewError(CodeInternal, errors.Join(m.closeErr, m.handle.Close()))
		m.lease.Close()
	})
	return m.closeErr
}

// Info implements [Generator].
func (m *Model) Info() Info { return m.info }

// Stats implements [StatsReader].
func (m *Model) Stats() Stats {
	s := m.engine.stats()
	s.Budget, s.ProcessBudget = m.budget.Usage(), budget.Process().Usage()
	nearest := &s.Budget
	if nearest.Limit == budget.Unlimited {
		nearest = &s.ProcessBudget
	}
	s.BudgetLimit, s.BudgetUsed = nearest.Limit, nearest.Used
	s.WeightsBytes = m.handle.Size()
	s.WeightsMapped, s.WeightsResident, s.WeightsUsed = m.handle.Residency()
	return s
}

// Ready reports whether the model can take requests: the error that Start would
// return if not, but for a full queue, which the next moment may have room in.
func (m *Model) Ready(context.Context) error { return m.engine.ready() }

// Start implements [Generator]. The prompt is tokenized on the caller's
// goroutine, so a context that ends stops that too.
func (m *Model) Start(ctx context.Context, req Request) (*Stream, error) {
	s, err := m.start(ctx, req)
	if err != nil {
		return nil, m.engine.refused(err)
	}
	return s, nil
}

func (m *Model) start(ctx context.Context, req Request) (*Stream, error) {
	start := time.Now()
	if err := needContext(ctx); err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if err := m.engine.ready(); err != nil {
		return nil, err
	}
	s := &sequence{
		started: start, maxTokens: req.MaxTokens, lease: m.budget.Lease(),
		Sequence: sched.Sequence{Tenant: strings.Clone(req.Tenant), Priority: req.Priority, Salt: req.CacheSalt},
	}
	var stream *Stream
	err := NewError(CodeResourceExhausted, s.lease.Reserve(budget.Request, AnswerBytes(&req, m.info.Vocabulary)))
	if err == nil {
		s.prompt, err = m.prompt(ctx, &req, s.lease)
	}
	if err == nil {
		s.Answer = newAnswer(&req, m.tok.StreamAfter(s.prompt, tokenizer.DecodeOptions{}), m.tok.IsEndOfGeneration)
		stream, err = m.engine.submit(ctx, s)
	}
	if err != nil {
		s.lease.Close()
	}
	return stream, err
}

// prompt turns a request's input into token ids and prices what it keeps.
func (m *Model) prompt(ctx context.Context, req *Request, lease *budget.Lease) ([]int32, error) {
	room := m.info.ContextLength - 1 // one token at least is to be generated
	if len(req.Tokens) > 0 {
		if len(req.Tokens) > room {
			return nil, &Error{Code: CodeContextLength, Field: "tokens", Err: &ContextLengthError{Prompt: len(req.Tokens), Limit: m.info.ContextLength}}
		}
		if err := lease.ReserveItems(budget.Request, uint64(len(req.Tokens)), 4); err != nil {
			return nil, NewError(CodeResourceExhausted, err)
		}
		ids := slices.Clone(req.Tokens) // the caller may reuse its own
		return ids, m.checkTokens(ids)
	}
	text, opt, field := req.Prompt, TokenizeOptions{AddSpecial: true, ParseSpecial: true}, "prompt"
	if len(req.Messages) > 0 {
		var err error
		if text, err = m.ApplyTemplate(ctx, req.Messages, true); err != nil {
			return nil, err
		}
		// Chat templates write the special tokens themselves.
		opt, field = TokenizeOptions{ParseSpecial: true}, "messages"
	}
	rendered := m.budget.Lease() // the template's text, until it is encoded
	defer rendered.Close()
	if err := rendered.Reserve(budget.Request, int64(len(text))); err != nil {
		return nil, NewError(CodeResourceExhausted, err)
	}
	ids, err := m.encode(ctx, text, opt, room)
	switch own := (*Error)(nil); {
	case err == nil && len(ids) == 0:
		return nil, invalid(field, "the prompt has no tokens")
	case err == nil:
		// They were priced as they were made.
		err = NewError(CodeResourceExhausted, lease.ReserveItems(budget.Request, uint64(cap(ids)), 4))
	case errors.As(err, &own) && (own.Code == CodeContextLength || own.Code == CodeInvalidRequest):
		own.Field = field
	}
	return ids, err
}

func (m *Model) checkTokens(ids []int32) error {
	for i, id := range ids {
		if id < 0 || int(id) >= m.info.Vocabulary {
			return invalid("tokens", "token %d is %d, the vocabulary has %d", i, id, m.info.Vocabulary)
		}
	}
	return nil
}

// checkScored looks for tokens from a position on that have no logit: what is beyond
// the tokenizer's vocabulary is padding.
func (m *Model) checkScored(ids []int32, from int) error {
	for i, id := range ids[from:] {
		if int(id) >= m.tok.Size() {
			return invalid("tokens", "token %d is %d, which is padding and can't be scored", from+i, id)
		}
	}
	return nil
}

// Score implements [Scorer].
func (m *Model) Score(ctx context.Context, tokens []int32, opt ScoreOptions) (*Score, error) {
	run := &scoreRun{from: opt.From, top: opt.Top, each: opt.Each}
	defer run.end()
	s, err := m.startScore(ctx, tokens, opt, run)
	if err != nil {
		return nil, m.engine.refused(err)
	}
	for _, err := range s.All() {
		if err != nil {
			return nil, err
		}
	}
	return &run.result, nil
}

func (m *Model) startScore(ctx context.Context, tokens []int32, opt ScoreOptions, run *scoreRun) (*Stream, error) {
	if len(tokens) > m.info.ContextLength {
		return nil, &Error{Code: CodeContextLength, Field: "tokens", Err: &ContextLengthError{Prompt: len(tokens), Limit: m.info.ContextLength}}
	}
	if err := opt.Validate(len(tokens)); err != nil {
		return nil, err
	}
	if err := needContext(ctx); err != nil {
		return nil, err
	}
	s := &sequence{
		started: time.Now(), lease: m.budget.Lease(), score: run,
		Sequence: sched.Sequence{From: opt.From, Tenant: strings.Clone(opt.Tenant), Priority: opt.Priority, Salt: opt.CacheSalt},
	}
	var stream *Stream
	err := NewError(CodeResourceExhausted, s.lease.ReserveItems(budget.Request, uint64(len(tokens)), 4+4+8))
	if err == nil {
		s.prompt = slices.Clone(tokens) // the caller may reuse its own
		err = cmp.Or(m.checkTokens(s.prompt), m.checkScored(s.prompt, opt.From+1))
	}
	if err == nil {
		n := len(tokens) - opt.From
		run.result = Score{Argmax: make([]int32, n), Logprobs: make([]float64, n-1)}
		stream, err = m.engine.submit(ctx, s)
	}
	if err != nil {
		s.lease.Close()
	}
	return stream, err
}
