package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// promptly is how long a stream may take to end once it was told to. A call
// returns within 50 ms; a loaded test machine adds its own.
const promptly = 5 * time.Second

// wantEnd reads s, which nobody read since it was told to end, to its end. That
// must be of the given code. What runs has to stop without being read.
func wantEnd(t *testing.T, g runtime.Generator, s *runtime.Stream, code runtime.Code, is error) {
	t.Helper()
	quiet(t, g)
	begin := time.Now()
	finished, err := endOf(s)
	if took := time.Since(begin); took > promptly {
		t.Errorf("it took %v to end", took)
	}
	if finished && errors.Is(err, io.EOF) {
		t.Skip("the context is so short that the answer was over first")
	}
	if runtime.CodeOf(err) != code || is != nil && !errors.Is(err, is) {
		t.Fatalf("the stream ended with %v (%v), want %v", err, runtime.CodeOf(err), code)
	}
	if _, again := s.Recv(); !errors.Is(again, err) {
		t.Errorf("the stream ended with %v and then %v", err, again)
	}
}

// works checks that the generator is of use after what was done to it.
func works(t *testing.T, g runtime.Generator) {
	t.Helper()
	quiet(t, g)
	generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 2})
}

func testCancelBefore(t *testing.T, g runtime.Generator) {
	ctx, cancel := context.WithCancel(limited(t))
	cancel()
	s, err := g.Start(ctx, endless())
	if err == nil {
		defer s.Close()
		_, err = endOf(s)
	}
	if runtime.CodeOf(err) != runtime.CodeCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	works(t, g)
}

func testCancelDuring(t *testing.T, g runtime.Generator) {
	for _, wait := range []struct {
		name string
		f    func(*testing.T, *runtime.Stream)
	}{
		{"at once", func(*testing.T, *runtime.Stream) {}},
		{"after a token", recvToken},
	} {
		t.Run(wait.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(limited(t))
			defer cancel()
			s := start(ctx, t, g, endless())
			wait.f(t, s)
			cancel()
			wantEnd(t, g, s, runtime.CodeCanceled, context.Canceled)
		})
	}
	works(t, g)
}

func testCancelWhileReading(t *testing.T, g runtime.Generator) {
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	s := start(ctx, t, g, endless())
	recvToken(t, s)
	var wg sync.WaitGroup
	wg.Go(cancel)
	finished, err := endOf(s)
	wg.Wait()
	if !finished && runtime.CodeOf(err) != runtime.CodeCanceled {
		t.Errorf("the stream ended with %v", err)
	}
	works(t, g)
}

func testCancelAfter(t *testing.T, g runtime.Generator) {
	ctx, cancel := context.WithCancel(limited(t))
	s := start(ctx, t, g, runtime.Request{Prompt: prompt, MaxTokens: 2})
	finished, err := endOf(s)
	cancel()
	if !finished || !errors.Is(err, io.EOF) {
		t.Fatalf("the stream ended with %v", err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end, a cancelled context gave %v", err)
	}
	s.Close()
	works(t, g)
}

func testDeadline(t *testing.T, g runtime.Generator) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	s, err := g.Start(ctx, endless())
	if err == nil {
		defer s.Close()
		<-ctx.Done() // unread, so that it can't be over
		wantEnd(t, g, s, runtime.CodeDeadline, context.DeadlineExceeded)
	} else if runtime.CodeOf(err) != runtime.CodeDeadline {
		t.Errorf("got %v", err)
	}
	works(t, g)
}

func testClose(t *testing.T, g runtime.Generator) {
	s := start(limited(t), t, g, endless())
	recvToken(t, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	wantEnd(t, g, s, runtime.CodeClosed, nil)
	works(t, g)

	// From another goroutine, while this one reads.
	s = start(limited(t), t, g, endless())
	recvToken(t, s)
	var wg sync.WaitGroup
	wg.Go(func() { s.Close() })
	finished, err := endOf(s)
	wg.Wait()
	if !finished && runtime.CodeOf(err) != runtime.CodeClosed {
		t.Errorf("the stream ended with %v", err)
	}
	works(t, g)
}

func testBreak(t *testing.T, g runtime.Generator) {
	tokens := 0
	for ev, err := range runtime.All(limited(t), g, endless()) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == runtime.EventToken {
			if tokens++; tokens == 2 {
				break
			}
		}
	}
	works(t, g)

	var text strings.Builder
	for ev, err := range runtime.All(limited(t), g, runtime.Request{Prompt: prompt, MaxTokens: 6}) {
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(ev.Text)
	}
	if want := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 6}).Text; text.String() != want {
		t.Errorf("All gave %q, Generate %q", text.String(), want)
	}
	errs := 0
	for _, err := range runtime.All(limited(t), g, runtime.Request{}) {
		if runtime.CodeOf(err) != runtime.CodeInvalidRequest {
			t.Errorf("an empty request gave %v", err)
		}
		errs++
	}
	if errs != 1 {
		t.Errorf("an empty request gave %d errors", errs)
	}
}

func testSlowReader(t *testing.T, g runtime.Generator) {
	slow := start(limited(t), t, g, endless())
	recvToken(t, slow)
	for range 3 { // while slow isn't read
		if res := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 8}); len(res.Tokens) == 0 {
			t.Error("no tokens")
		}
	}
	recvToken(t, slow) // it goes on where it stood
	slow.Close()
	works(t, g)
}

func testDropped(t *testing.T, g runtime.Generator) {
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	for range 4 { // neither read nor closed
		if _, err := g.Start(ctx, endless()); err != nil {
			t.Fatal(err)
		}
	}
	generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 2})
	cancel()
	works(t, g)
}

func testTokenizer(t *testing.T, g runtime.Generator) {
	tk, ok := runtime.As[runtime.Tokenizer](g)
	if !ok {
		t.Skip("Tokenizer: the generator has none")
	}
	for _, text := range []string{
		"Hello, world!", "a", "  two spaces\tand a tab\n\nlines ", "naïve café, 東京 и 🦆👩‍👩‍👧", "x := map[string]int{\"a\": 1}", "0123456789",
		strings.Repeat("long ", 200),
	} {
		ids, err := tk.Tokenize(limited(t), text, runtime.TokenizeOptions{})
		if err != nil {
			t.Errorf("Tokenize(%q): %v", text, err)
			continue
		}
		var back []byte
		for _, id := range ids {
			b := tk.TokenBytes(id)
			if b == nil {
				t.Errorf("Tokenize(%q) gave the unknown id %d", text, id)
			}
			back = append(back, b...)
		}
		// Some vocabularies put a space before the first word.
		if string(back) != text && string(back) != " "+text {
			t.Errorf("Tokenize(%q) comes back as %q", text, back)
		}
	}
	if ids, err := tk.Tokenize(limited(t), "", runtime.TokenizeOptions{}); err != nil || len(ids) != 0 {
		t.Errorf("no text gave %v, %v", ids, err)
	}
	if _, err := tk.Tokenize(limited(t), "\xff\xe2\x82", runtime.TokenizeOptions{}); err != nil && runtime.CodeOf(err) != runtime.CodeInvalidRequest {
		t.Errorf("invalid UTF-8 gave %v", err)
	}
	for _, id := range []int32{-1, 1<<31 - 1} {
		if b := tk.TokenBytes(id); b != nil {
			t.Errorf("the unknown id %d is %q", id, b)
		}
	}

	// A prompt is its tokens.
	plain, err := tk.Tokenize(limited(t), prompt, runtime.TokenizeOptions{AddSpecial: true, ParseSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	want := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 6})
	if want.Usage.PromptTokens != len(plain) {
		t.Errorf("the prompt has %d tokens, Tokenize gives %d", want.Usage.PromptTokens, len(plain))
	}
	got, err := runtime.Generate(limited(t), g, runtime.Request{Tokens: plain, MaxTokens: 6})
	unsupported(t, "Tokens", err)
	if err != nil {
		t.Fatal(err)
	}
	if got.Text != want.Text {
		t.Errorf("tokens gave %q, their text %q", got.Text, want.Text)
	}
	var said bytes.Buffer
	for _, id := range got.Tokens {
		said.Write(tk.TokenBytes(id))
	}
	if valid := strings.ToValidUTF8(got.Text, ""); !strings.ContainsRune(valid, '\uFFFD') && !strings.HasPrefix(said.String(), valid) &&
		!strings.HasPrefix(said.String(), " "+valid) {
		t.Errorf("the text is %q, the tokens are %q", got.Text, said.String())
	}
}

func testTemplater(t *testing.T, g runtime.Generator) {
	tp, ok := runtime.As[runtime.Templater](g)
	if !ok {
		t.Skip("Templater: the generator has none")
	}
	messages := []runtime.Message{{Role: "user", Content: "What is a dunlin?"}}
	open, err := tp.ApplyTemplate(limited(t), messages, true)
	unsupported(t, "Templater", err)
	if err != nil {
		t.Fatal(err)
	}
	shut, err := tp.ApplyTemplate(limited(t), messages, false)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(open, messages[0].Content) || !strings.Contains(shut, messages[0].Content) {
		t.Errorf("the message is lost: %q, %q", open, shut)
	}
	if !strings.HasPrefix(open, shut) {
		t.Errorf("the generation prompt changes what is before it: %q, %q", open, shut)
	}
}
