package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dunlin-go/dunlin/cbind/isolated"
	"github.com/dunlin-go/dunlin/internal/sampler"
	"github.com/dunlin-go/dunlin/runtime"
)

// verifyGreedy is how many tokens a continuation has.
const verifyGreedy = 16

// verifyCmd holds the native engine to Transformers.
type verifyCmd struct {
	Model     string   `arg:"" help:"Path of a GGUF file, or a name of the catalogue."`
	Reference string   `placeholder:"DIR|FILE" help:"What Transformers loads: a Hugging Face directory, or a GGUF file, which it unpacks (default: the model's own file)."`
	Text      []string `sep:"none" placeholder:"TEXT" help:"A text to compare, in which special tokens are parsed; may be repeated (default: some built-in ones)."`
	File      []string `sep:"none" placeholder:"FILE" help:"A file with a text to compare; may be repeated."`
	DType     string   `name:"dtype" enum:"float32,bfloat16,float16,auto" default:"float32" placeholder:"TYPE" help:"Type of the reference's weights and arithmetic: float32, bfloat16, float16, or auto for that of its files (default: ${default})."`
	JSON      bool     `help:"Print one JSON object."`
	Threads   int      `short:"t" placeholder:"N" help:"Threads that compute (default: all processors)."`
	boundFlags
	computeFlags
}

// verifyReport is what was found.
type verifyReport struct {
	Model        string       `json:"model"`
	Reference    string       `json:"reference"`
	Torch        string       `json:"torch"`
	Transformers string       `json:"transformers"`
	DType        string       `json:"dtype"`
	Activations  string       `json:"activations"`
	Bounds       verifyBounds `json:"bounds"`
	Template     string       `json:"template"` // equal, different, or which of them has none
	Texts        []textResult `json:"texts"`
	OK           bool         `json:"ok"`
	Failed       []string     `json:"failed"`
}

// Run compares, prints, and fails where a bound doesn't hold.
func (c *verifyCmd) Run(ctx context.Context, std *stdio) (err error) {
	if isTransformers(c.Model) {
		return errors.New("verify compares a model of the native engine; what Transformers loads is given by --reference")
	}
	texts, err := c.texts(ctx)
	if err != nil {
		return err
	}
	opts := []runtime.Option{runtime.WithMaxSequences(perplexityRows)}
	var refOpts []runtime.Option
	if c.Threads != 0 {
		opts = append(opts, runtime.WithThreads(c.Threads))
		refOpts = append(refOpts, runtime.WithThreads(c.Threads))
	}
	native, err := c.load(ctx, c.Model, opts...)
	if err != nil {
		return err
	}
	defer closeInto(&err, native)
	path, _, err := findTransformers(cmp.Or(c.Reference, c.Model))
	if err != nil {
		return err
	}
	reference, err := isolated.Open(ctx, path, isolated.WithDType(c.DType), isolated.WithRuntime(refOpts...))
	if err != nil {
		return fmt.Errorf("the reference %s: %w", path, err)
	}
	defer closeInto(&err, reference)
	v := &verifier{native: native, reference: reference, bounds: c.bounds(c.Activations)}
	report, err := v.verify(ctx, texts)
	if err != nil {
		return err
	}
	report.DType, report.Activations = c.DType, string(c.Activations)
	if err := report.print(std.out, c.JSON); err != nil {
		return err
	}
	return report.failure()
}

// verifier runs texts through both.
type verifier struct {
	native    model
	reference *isolated.Model
	bounds    verifyBounds
}

func (v *verifier) verify(ctx context.Context, texts []verifyText) (*verifyReport, error) {
	r := &verifyReport{Model: v.native.Info().ID, Reference: v.reference.Info().Name, Bounds: v.bounds, Failed: []string{}}
	r.Torch, r.Transformers = v.reference.Versions()
	var err error
	if r.Template, err = v.template(ctx); err != nil {
		return nil, err
	}
	if r.Template == templateDifferent {
		r.Failed = append(r.Failed, "the chat templates write different texts")
	}
	for _, t := range texts {
		res, err := v.text(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		res.judge(&v.bounds)
		r.Texts = append(r.Texts, *res)
		for _, f := range res.Failed {
			r.Failed = append(r.Failed, t.name+": "+f)
		}
	}
	r.OK = len(r.Failed) == 0
	return r, nil
}

// What is found of the chat templates.
const (
	templateEqual     = "equal"
	templateDifferent = "different"
	templateNone      = "neither has one"
	templateNative    = "the reference has none"
	templateReference = "the model has none"
)

func (v *verifier) template(ctx context.Context) (string, error) {
	var texts [2]string
	var none [2]bool
	for i, g := range []runtime.Generator{v.native, v.reference} {
		t, ok := runtime.As[runtime.Templater](g)
		if !ok {
			none[i] = true
			continue
		}
		var err error
		texts[i], err = t.ApplyTemplate(ctx, verifyConversation, true)
		if none[i] = runtime.CodeOf(err) == runtime.CodeUnsupported; err != nil && !none[i] {
			return "", err
		}
	}
	switch {
	case none[0] && none[1]:
		return templateNone, nil
	case none[0]:
		return templateReference, nil
	case none[1]:
		return templateNative, nil
	case texts[0] != texts[1]:
		return templateDifferent, nil
	}
	return templateEqual, nil
}

// text runs one text, with the reference's continuation after it, through both.
func (v *verifier) text(ctx context.Context, t verifyText) (*textResult, error) {
	opt := runtime.TokenizeOptions{AddSpecial: true, ParseSpecial: true}
	ids, err := v.native.Tokenize(ctx, t.text, opt)
	if err != nil {
		return nil, err
	}
	want, err := v.reference.Tokenize(ctx, t.text, opt)
	if err != nil {
		return nil, err
	}
	res := &textResult{Name: t.name, Tokens: len(ids), TokensEqual: slices.Equal(ids, want), FirstDifference: -1}
	if !res.TokensEqual { // then the logits are of different texts
		res.FirstDifference = firstDifference(ids, want)
		return res, nil
	}
	if len(ids) == 0 {
		return nil, errors.New("the text has no tokens")
	}
	n := len(ids)
	room := min(v.native.Info().ContextLength, v.reference.Info().ContextLength) - n
	if room > 0 {
		err := v.reference.GenerateReference(ctx, want, min(verifyGreedy, room), func(id int32) bool {
			ids = append(ids, id)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	positions, native, reference, err := v.compare(ctx, ids, n)
	if err != nil {
		return nil, err
	}
	res.means(native, reference)
	return res, res.summarise(positions, n, v.bounds.Margin)
}

// compare gives the difference at each of ids, and the log-probabilities of the first
// n by both.
func (v *verifier) compare(ctx context.Context, ids []int32, n int) (positions []difference, native, reference []float64, err error) {
	out, err := v.reference.Infer(ctx, isolated.Input{Tokens: ids})
	if err != nil {
		return nil, nil, nil, err
	}
	defer out.Release()
	values, err := out.Values()
	if err != nil {
		return nil, nil, nil, err
	}
	width := len(values) / len(ids)
	row := func(at int) []float32 { return values[at*width:][:width] }
	positions = make([]difference, len(ids))
	score, err := v.native.Score(ctx, ids, runtime.ScoreOptions{Each: func(at int, logits []float32) {
		positions[at] = compareLogits(row(at), logits)
	}})
	if err != nil {
		return nil, nil, nil, err
	}
	for at := range n - 1 {
		reference = append(reference, float64(row(at)[ids[at+1]])-sampler.LogSumExp(row(at)))
	}
	return positions, score.Logprobs[:n-1], reference, nil
}

// firstDifference is the index of the first element that isn't the same, which may be
// the end of one.
func firstDifference(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
