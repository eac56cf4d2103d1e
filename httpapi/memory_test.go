package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// withLimit sets the limit of the process until the test ends.
func withLimit(t *testing.T, bytes int64) {
	t.Helper()
	before := runtime.ProcessMemory().Limit
	t.Cleanup(func() { _ = runtime.SetMemoryLimit(before) })
	if err := runtime.SetMemoryLimit(bytes); err != nil {
		t.Fatal(err)
	}
}

// givesBack checks that a test has nothing reserved in the end.
func givesBack(t *testing.T) {
	before := runtime.ProcessMemory()
	t.Cleanup(func() {
		if got := runtime.ProcessMemory(); got.By != before.By {
			t.Errorf("%+v is reserved, want %+v", got, before)
		}
	})
}

// TestRefusedBody: a body is priced as it comes, a length that is only claimed isn't,
// and the refusal says how much was asked for and is left.
func TestRefusedBody(t *testing.T) {
	givesBack(t)
	e := engine(New(fake(t)))
	withLimit(t, runtime.ProcessMemory().Used+1000)
	text := strings.Repeat("x", 500)
	w := do(e, "POST", chatPath, `{"messages":[{"role":"user","content":"`+text+`"}]}`)
	got := wantError(t, w, 503, "resource_exhausted", "")
	asked, left, limit := 0, 0, 0
	if _, err := fmt.Sscanf(got.Error.Message, "There is not enough memory for the request now: %d bytes are needed, %d of %d are left.", &asked, &left, &limit); err != nil ||
		asked < 500*bodyFactor || left != 1000 || limit < 1000 {
		t.Errorf("%q: %d asked, %d left of %d", got.Error.Message, asked, left, limit)
	}
	if after := w.Header().Get("Retry-After"); (after != "") != (asked <= limit) {
		t.Errorf("Retry-After %q", after)
	}
	r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(ask("")))
	r.ContentLength = 1 << 20
	rec := httptest.NewRecorder()
	withLimit(t, runtime.ProcessMemory().Used+100_000)
	if e.ServeHTTP(rec, r); rec.Code != 200 {
		t.Errorf("a length that is claimed: %d %s", rec.Code, rec.Body)
	}
}

// TestLimitLowered: answers that have begun go on to their end, streamed or not,
// below a limit that refuses new ones; what can't ever fit has no Retry-After.
func TestLimitLowered(t *testing.T) {
	givesBack(t)
	gate := runtimetest.NewGate()
	f := fake(t, runtimetest.WithGate(gate), says(strings.Repeat("words ", 500)))
	e := engine(New(f))
	answers := make(chan *httptest.ResponseRecorder, 2)
	for _, fields := range []string{`"stream":true`, `"logprobs":true,"max_tokens":100`} {
		go func() { answers <- do(e, "POST", chatPath, ask(fields)) }()
	}
	eventually(t, "both run", func() bool { return f.Stats().Running == 2 })
	if got := runtime.ProcessMemory().By[runtime.PurposeHTTP]; got == 0 {
		t.Error("nothing is reserved for them")
	}
	withLimit(t, 1)
	w := do(e, "POST", chatPath, ask(""))
	wantError(t, w, 503, "resource_exhausted", "")
	if after := w.Header().Get("Retry-After"); after != "" {
		t.Errorf("Retry-After %q for what can't fit", after)
	}
	gate.Step(200)
	gate.Open()
	for range 2 {
		w := <-answers
		streamed := strings.HasSuffix(w.Body.String(), "data: [DONE]\n\n")
		if w.Code != 200 || !streamed && !strings.Contains(w.Body.String(), `"finish_reason":"length"`) {
			t.Errorf("%d %.300s", w.Code, w.Body)
		}
	}
}

// TestAnswerTooLarge: an answer that is gathered ends where memory does; one that is
// streamed doesn't need it.
func TestAnswerTooLarge(t *testing.T) {
	givesBack(t)
	const size = 2 << 20
	e := engine(New(fake(t, says(strings.Repeat("words ", size/6)), runtimetest.WithContextLength(2*size))))
	withLimit(t, runtime.ProcessMemory().Used+size)
	got := wantError(t, do(e, "POST", chatPath, ask("")), 503, "resource_exhausted", "")
	if !strings.Contains(got.Error.Message, "bytes are needed") {
		t.Errorf("%q has no numbers", got.Error.Message)
	}
	if w := do(e, "POST", chatPath, ask(`"stream":true`)); w.Code != 200 || !strings.HasSuffix(w.Body.String(), "data: [DONE]\n\n") {
		t.Errorf("a stream: %d, %d bytes", w.Code, w.Body.Len())
	}
}

// verbose has tokens of long texts.
type verbose struct{ *runtimetest.Fake }

const longToken = 16 << 10

func (verbose) TokenBytes(int32) []byte { return make([]byte, longToken) }

// largest remembers the largest write.
type largest struct {
	*httptest.ResponseRecorder
	bytes int
}

func (l *largest) Write(b []byte) (int, error) {
	l.bytes = max(l.bytes, len(b))
	return io.Discard.Write(b)
}

// TestLongEventsLeaveEarly: 64 events with what their tokens were chosen from may be
// many megabytes; they aren't gathered.
func TestLongEventsLeaveEarly(t *testing.T) {
	const event = 3 * (6 + 2) * longToken // a byte as \u0000 and as a number, of three tokens
	gate := runtimetest.NewGate()
	f := fake(t, runtimetest.WithGate(gate), runtimetest.WithBuffer(64), says(strings.Repeat("w", 200)))
	e := engine(New(verbose{f}))
	gate.Open()
	w := &largest{ResponseRecorder: httptest.NewRecorder()}
	e.ServeHTTP(w, httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(ask(`"stream":true,"logprobs":true,"top_logprobs":2`))))
	if w.Code != 200 || w.bytes < longToken || w.bytes > frameBytesMax+event {
		t.Errorf("%d, the largest write has %d bytes", w.Code, w.bytes)
	}
}

// TestManyStops: a list of more stop strings than there may be isn't read.
func TestManyStops(t *testing.T) {
	e := engine(New(fake(t)))
	stops := `["a"` + strings.Repeat(`,"a"`, 100_000) + "]"
	wantError(t, do(e, "POST", chatPath, ask(`"stop":`+stops)), 400, "invalid_value", "stop")
	var r request
	if setStop(&r, gjson.Parse(stops)); len(r.gen.Stop) > maxStops {
		t.Errorf("%d stop strings were read", len(r.gen.Stop))
	}
	if w := do(e, "POST", chatPath, ask(`"stop":["a"`+strings.Repeat(`,"a"`, maxStops-1)+"]")); w.Code != 200 {
		t.Errorf("%d stop strings: %d %s", maxStops, w.Code, w.Body)
	}
}

// TestAbortedHandler: a handler that is aborted gives back what its body took.
func TestAbortedHandler(t *testing.T) {
	givesBack(t)
	e := engine(New(fake(t), WithScheduling(func(*gin.Context) (Scheduling, error) { panic(http.ErrAbortHandler) })))
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("it ended with %v", p)
		}
	}()
	do(e, "POST", chatPath, ask(""))
}
