package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

// frame is what a request works with and gives back.
type frame struct {
	buf    []byte // the body is read through it, the answer written from it
	events [64]runtime.Event
}

const (
	frameBytes    = 8 << 10
	frameBytesMax = 256 << 10 // a larger buffer isn't kept
)

// reply is the answer to one request: its typed context, made once and passed
// by pointer.
type reply struct {
	api     *API
	surface *surface
	c       *gin.Context
	rc      *http.ResponseController
	model   *model
	req     *request
	id      string
	created int64
	head    []byte // how every event begins
	frame   *frame
	lease   *budget.Lease // what the body and an answer that is gathered take
	body    int64         // of it, for the body

	begun    bool // the status and the headers are out
	greeted  bool // the event with the role is out
	finished bool // the event with the finish reason is out
}

// completion is the handler of one kind of completions.
func (a *API) completion(s *surface) gin.HandlerFunc {
	return func(c *gin.Context) {
		r := &reply{api: a, surface: s, c: c, rc: http.NewResponseController(c.Writer), lease: budget.Process().Lease()}
		r.frame = a.frames.Get().(*frame)
		if r.frame.buf == nil {
			r.frame.buf = make([]byte, frameBytes)
		}
		defer r.lease.Close() // also where done panics on
		defer r.done()
		if e := r.serve(); e != nil {
			a.fail(c, e)
		}
	}
}

// done ends the handler. A panic, which is a fault of a generator or of this
// package, ends the one request that met it.
func (r *reply) done() {
	if p := recover(); p != nil {
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		r.abort(fromError(fmt.Errorf("panic: %v\n%s", p, debug.Stack())))
	}
	clear(r.frame.events[:]) // they hold strings
	if cap(r.frame.buf) <= frameBytesMax {
		r.api.frames.Put(r.frame)
	}
}

// serve answers, or returns the error that is to be answered in its place.
func (r *reply) serve() *apiError {
	a := r.api
	body, e := a.readBody(r.c, r.frame.buf[:cap(r.frame.buf)], r.lease)
	if e != nil {
		return e
	}
	if r.req, e = a.parse(r.surface, body); e != nil {
		return e
	}
	if r.model, e = a.find(r.req.model); e != nil {
		return e
	}
	if r.req.gen.Logprobs && r.model.tokens == nil {
		return (&fault{code: codeUnsupported, param: "logprobs", why: "the model's tokens aren't known"}).apiError()
	}
	if e = r.schedule(); e != nil || r.c.IsAborted() {
		return e
	}
	r.body = r.lease.Held()
	if !r.req.stream {
		if e = r.cover(r.wholeAhead()); e != nil {
			return e
		}
	}
	s, err := r.model.gen.Start(r.c.Request.Context(), r.req.gen)
	if err != nil {
		return r.fromError(err)
	}
	defer s.Close()
	r.id, r.created = a.newID(), a.now().Unix()
	if r.req.stream {
		return r.stream(s)
	}
	return r.whole(s)
}

// fromError is [fromError] with the field's name in this kind of request.
func (r *reply) fromError(err error) *apiError {
	e := fromError(err)
	cause := context.Cause(r.c.Request.Context())
	if e.status == statusClientClosed && cause != nil && !errors.Is(cause, context.Canceled) {
		// Not the client, which net/http tells by a plain cancel.
		ended := codes[runtime.CodeClosed]
		ended.message, ended.cause = "The server ended the request.", err
		return &ended
	}
	if e.code == "context_length_exceeded" && e.param == "" || e.param == "tokens" {
		e.param = r.surface.input
	}
	return e
}

// wholeAhead is what an answer that is sent at once may come to, such as it usually
// is, up to some ten thousand bytes: a limit that is lowered while it is gathered
// doesn't end it. What is beyond that is priced as it comes.
func (r *reply) wholeAhead() int {
	const most, text, token = 32 << 10, 8, 128
	tokens, each := r.req.gen.MaxTokens, text
	if tokens == 0 {
		tokens = r.model.gen.Info().ContextLength
	}
	if r.req.gen.Logprobs {
		each += token * (1 + r.req.gen.TopLogprobs)
	}
	return min(tokens, most/each) * each
}

// cover prices n bytes of an answer that is gathered: while its buffer grows there
// are two, and in the end the log-probabilities follow the text.
func (r *reply) cover(n int) *apiError {
	const factor = 3
	if err := r.lease.Cover(budget.HTTP, r.body+factor*int64(n)); err != nil {
		return r.fromError(runtime.NewError(runtime.CodeResourceExhausted, err))
	}
	return nil
}

// whole collects the answer and sends it at once.
func (r *reply) whole(s *runtime.Stream) *apiError {
	b := r.appendHead(r.frame.buf[:0], r.surface.object)
	if r.surface.chat {
		b = append(b, `{"index":0,"message":{"role":"assistant","content":"`...)
	} else {
		b = append(b, `{"index":0,"text":"`...)
	}
	var logprobs []byte
	var finish runtime.Event
	for {
		ev, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r.fromError(err)
		}
		b = appendEscaped(b, ev.Text) // the string grows with each event
		switch ev.Kind {
		case runtime.EventToken:
			if r.req.gen.Logprobs {
				if logprobs != nil {
					logprobs = append(logprobs, ',')
				}
				logprobs = r.appendLogprob(logprobs, &ev)
			}
		case runtime.EventFinish:
			finish = ev
		}
		// What a single event adds is small.
		if e := r.cover(len(b) + len(logprobs)); e != nil {
			return e
		}
	}
	b = append(b, '"')
	if r.surface.chat {
		b = append(b, `,"refusal":null}`...)
	}
	b = append(b, `,"logprobs":`...)
	if r.req.gen.Logprobs {
		b = append(append(append(b, `{"content":[`...), logprobs...), `],"refusal":null}`...)
	} else {
		b = append(b, "null"...)
	}
	b = appendString(append(b, `,"finish_reason":`...), finish.Finish.String())
	b = append(appendUsage(append(b, `}],"usage":`...), finish.Usage), '}')
	r.frame.buf = b
	r.c.Header("Content-Length", strconv.Itoa(len(b)))
	r.begin(mimeJSON)
	_, _ = r.c.Writer.Write(b)
	return nil
}

// stream sends the events as they come. Those that are ready leave in one
// write; a generator that is ahead of the network costs fewer of them.
func (r *reply) stream(s *runtime.Stream) *apiError {
	r.head = r.appendHead(nil, r.surface.chunk)
	var silence <-chan time.Time
	var timer *time.Timer
	if r.api.ping > 0 {
		timer = time.NewTimer(r.api.ping)
		defer timer.Stop()
		silence = timer.C
	}
	for {
		n, err := s.Drain(r.frame.events[:])
		if err != nil {
			if r.finished {
				return nil
			}
			if errors.Is(err, io.EOF) {
				err = errors.New("the stream had no finish event")
			}
			e := r.fromError(err)
			if !r.begun {
				return e
			}
			r.abort(e)
			return nil
		}
		b := r.frame.buf[:0]
		for i := range r.frame.events[:n] {
			if len(b) >= frameBytesMax/2 { // of long tokens, with what they were chosen from
				if !r.send(b) {
					return nil
				}
				b = b[:0]
			}
			b = r.appendEvent(b, &r.frame.events[i])
		}
		r.frame.buf = b
		if len(b) > 0 {
			if !r.send(b) {
				return nil
			}
			if timer != nil {
				timer.Reset(r.api.ping)
			}
		}
		if n > 0 {
			continue // there may be more
		}
		select {
		case <-s.Ready():
		case <-silence:
			if !r.send(pingFrame) {
				return nil
			}
			timer.Reset(r.api.ping)
		}
	}
}

var pingFrame = []byte(": ping\n\n")

// abort tells the client of an error wherever the answer stands: in its place,
// or as the last event of a stream, which then has no [DONE].
func (r *reply) abort(e *apiError) {
	switch {
	case !r.c.Writer.Written():
		r.api.fail(r.c, e)
	case r.req != nil && r.req.stream:
		id := r.api.requestID(r.c)
		r.api.report(r.c, e, id)
		r.send(append(e.append([]byte("data: "), id), "\n\n"...))
	default:
		r.api.report(r.c, e, r.api.requestID(r.c))
	}
}

// begin sends nothing yet, but from here on the status is 200.
func (r *reply) begin(mime string) {
	r.begun = true
	r.api.requestID(r.c)
	r.c.Header("Content-Type", mime)
	r.c.Status(http.StatusOK)
	r.setDeadline()
}

// send writes and flushes; false says that the client can't be reached.
func (r *reply) send(b []byte) bool {
	if r.begun {
		r.setDeadline()
	} else {
		r.c.Header("Cache-Control", "no-cache")
		r.c.Header("X-Accel-Buffering", "no")
		r.begin(mimeSSE)
	}
	if _, err := r.c.Writer.Write(b); err != nil {
		return false
	}
	err := r.rc.Flush()
	return err == nil || errors.Is(err, http.ErrNotSupported)
}

// setDeadline gives the next write its time. The server takes the deadline away
// before the connection's next request.
func (r *reply) setDeadline() {
	if r.api.writeTimeout > 0 {
		_ = r.rc.SetWriteDeadline(time.Now().Add(r.api.writeTimeout)) // not every writer has one
	}
}
