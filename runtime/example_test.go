package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// The program of the README, with a fake in the place of a model file.
func Example() {
	ctx := context.Background()
	m := runtimetest.New(runtimetest.WithReply(func(string) string { return "100 degrees." }))
	defer m.Close()

	question := runtime.Message{Role: "user", Content: "What is the boiling point of water in Celsius?"}
	req := runtime.Request{Messages: []runtime.Message{question}, MaxTokens: 64}
	for ev, err := range runtime.All(ctx, m, req) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(ev.Text)
	}
	// Output: 100 degrees.
}

// Events come as they happen; the last one says how the answer ended.
func ExampleAll() {
	gen := runtimetest.New(runtimetest.WithReply(func(string) string { return "tea" }))
	defer gen.Close()

	req := runtime.Request{Prompt: "Coffee or tea?", MaxTokens: 2}
	for ev, err := range runtime.All(context.Background(), gen, req) {
		switch {
		case err != nil:
			log.Fatal(err)
		case ev.Kind == runtime.EventToken:
			fmt.Printf("token %d %q\n", ev.Token, ev.Text)
		case ev.Kind == runtime.EventFinish:
			fmt.Printf("%v after %d tokens\n", ev.Finish, ev.Usage.CompletionTokens)
		}
	}
	// Output:
	// token 116 "t"
	// token 101 "e"
	// length after 2 tokens
}

// A whole answer at once, up to a stop string.
func ExampleGenerate() {
	gen := runtimetest.New(runtimetest.WithReply(func(string) string { return "one, two, three" }))
	defer gen.Close()

	res, err := runtime.Generate(context.Background(), gen, runtime.Request{Prompt: "Count!", Stop: []string{", three"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q, %v\n", res.Text, res.Finish)
	// Output: "one, two", stop
}

// What a generator can do beyond generating is found with As.
func ExampleAs() {
	ctx := context.Background()
	var gen runtime.Generator = runtimetest.New()

	tok, ok := runtime.As[runtime.Tokenizer](gen)
	if !ok {
		log.Fatal("the generator has no tokenizer")
	}
	ids, err := tok.Tokenize(ctx, "hi", runtime.TokenizeOptions{AddSpecial: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range ids {
		fmt.Printf("%d %s\n", id, tok.TokenBytes(id))
	}
	_, scores := runtime.As[runtime.Scorer](gen)
	fmt.Println("scores:", scores)
	// Output:
	// 256 <bos>
	// 104 h
	// 105 i
	// scores: false
}

// A file that is in memory already, such as an embedded one, is a model too.
func ExampleLoadBytes() {
	ctx := context.Background()
	file := testmodel.Llama(testmodel.Config{Seed: 1}) // a tiny model that knows nothing

	m, err := runtime.LoadBytes(ctx, file, runtime.WithContextLength(64))
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	info := m.Info()
	fmt.Println(info.Architecture, info.Quantization, info.ContextLength)

	res, err := runtime.Generate(ctx, m, runtime.Request{Prompt: "Hello", MaxTokens: 8, IgnoreEOS: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Finish, res.Usage.CompletionTokens)
	// Output:
	// llama F32 64
	// length 8
}

// An observer follows requests and steps; what it has no function for costs nothing.
func ExampleWithObserver() {
	ctx := context.Background()
	told := make(chan string, 16)
	m, err := runtime.LoadBytes(ctx, testmodel.Llama(testmodel.Config{}), runtime.WithObserver(runtime.Observer{
		Queued: func(ev runtime.RequestQueued) {
			told <- fmt.Sprintf("request %d has %d tokens", ev.ID, ev.PromptTokens)
		},
		Ended: func(ev runtime.RequestEnded) {
			told <- fmt.Sprintf("request %d ended (%v) after %d tokens", ev.ID, ev.Outcome, ev.Usage.CompletionTokens)
		},
	}))
	if err != nil {
		log.Fatal(err)
	}
	_, err = runtime.Generate(ctx, m, runtime.Request{Tokens: []int32{10, 20, 30}, MaxTokens: 8, IgnoreEOS: true})
	if err := errors.Join(err, m.Close()); err != nil { // Close waits until the observer has heard all
		log.Fatal(err)
	}
	close(told)
	for line := range told {
		fmt.Println(line)
	}
	// Output:
	// request 1 has 3 tokens
	// request 1 ended (length) after 8 tokens
}

// Every error has a code to branch on, and what it wraps can be found.
func ExampleCodeOf() {
	gen := runtimetest.New(runtimetest.WithContextLength(8))
	defer gen.Close()

	_, err := runtime.Generate(context.Background(), gen, runtime.Request{Prompt: "much too long"})
	fmt.Println(runtime.CodeOf(err) == runtime.CodeContextLength)

	var tooLong *runtime.ContextLengthError
	if errors.As(err, &tooLong) {
		fmt.Println(tooLong.Prompt, tooLong.Limit)
	}
	// Output:
	// true
	// 14 8
}

// The README shows a program: it is the one that is built and tested.
func TestReadmeProgram(t *testing.T) {
	const begin = "func main() {\n"
	source, readme := read(t, "../examples/embed/main.go"), read(t, "../README.md")
	at := strings.Index(source, begin)
	if at < 0 {
		t.Fatal("examples/embed/main.go has no main")
	}
	if !strings.Contains(readme, "```go\n"+source[at:]+"```\n") {
		t.Errorf("README.md doesn't show the main of examples/embed/main.go:\n%s", source[at:])
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// A server of many models: those that nobody asks for leave memory, and come back.
func ExampleWithKeepAlive() {
	if err := runtime.SetResidentLimit(8 << 30); err != nil {
		log.Fatal(err)
	}

	path := filepath.Join(os.TempDir(), "example.gguf") // any model's file
	if err := os.WriteFile(path, testmodel.Llama(testmodel.Config{}), 0o600); err != nil {
		log.Fatal(err)
	}
	defer os.Remove(path)
	var read, all int64
	m, err := runtime.Load(context.Background(), path,
		runtime.WithKeepAlive(5*time.Minute),
		runtime.WithProgress(func(done, total int64) { read, all = done, total }))
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	fmt.Println(read == all)
	fmt.Println(m.Stats().WeightsMapped == m.Info().FileBytes)
	// Output:
	// true
	// true
}
