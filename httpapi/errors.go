package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/runtime"
)

// The types of OpenAI's errors.
const (
	kindInvalid = "invalid_request_error"
	kindRate    = "rate_limit_error"
	kindServer  = "server_error"
)

// statusClientClosed is nginx's name for a client that went away.
const statusClientClosed = 499

// apiError is an error in OpenAI's format.
type apiError struct {
	status  int
	kind    string // OpenAI's type
	code    string
	param   string
	message string
	retry   int   // seconds for Retry-After, 0 for none
	cause   error // what happened, where the message must not tell it
}

// codes is the one table from a [runtime.Code] to what a client is told. Where
// message is empty it is the error's own text; the others say nothing about
// the inside.
var codes = map[runtime.Code]apiError{
	runtime.CodeInvalidRequest:    {status: http.StatusBadRequest, kind: kindInvalid, code: "invalid_value"},
	runtime.CodeContextLength:     {status: http.StatusBadRequest, kind: kindInvalid, code: "context_length_exceeded"},
	runtime.CodeUnsupported:       {status: http.StatusBadRequest, kind: kindInvalid, code: "unsupported_parameter"},
	runtime.CodeModelNotFound:     {status: http.StatusNotFound, kind: kindInvalid, code: "model_not_found"},
	runtime.CodeInvalidModel:      {status: http.StatusInternalServerError, kind: kindServer, code: "invalid_model", message: "The model can't be used."},
	runtime.CodeModelChanged:      {status: http.StatusServiceUnavailable, kind: kindServer, code: "model_changed", message: "The model's file was changed while it was in use."},
	runtime.CodeNumerics:          {status: http.StatusInternalServerError, kind: kindServer, code: "numeric_error", message: "The model's computation failed."},
	runtime.CodeResourceExhausted: {status: http.StatusServiceUnavailable, kind: kindServer, code: "resource_exhausted", message: "There is not enough memory for the request now.", retry: 5},
	runtime.CodeOverloaded:        {status: http.StatusTooManyRequests, kind: kindRate, code: "overloaded", message: "The server has too many requests now. Try again later.", retry: 1},
	runtime.CodeCanceled:          {status: statusClientClosed, kind: kindServer, code: "canceled", message: "The request was canceled."},
	runtime.CodeDeadline:          {status: http.StatusGatewayTimeout, kind: kindServer, code: "timeout", message: "The request took longer than it may."},
	runtime.CodeClosed:            {status: http.StatusServiceUnavailable, kind: kindServer, code: "unavailable", message: "The model is not available.", retry: 5},
	runtime.CodeInternal:          {status: http.StatusInternalServerError, kind: kindServer, code: "internal_error", message: "The server had an error while processing the request."},
}

// fromError is what a client is told about err.
func fromError(err error) *apiError {
	e, known := codes[runtime.CodeOf(err)]
	if !known {
		e = codes[runtime.CodeInternal]
	}
	var over *runtime.OverloadedError
	if errors.As(err, &over) {
		e.retry = max(int((over.RetryAfter+time.Second-1)/time.Second), 1)
	}
	var full *runtime.MemoryError
	if errors.As(err, &full) {
		e.message = fmt.Sprintf("There is not enough memory for the request now: %d bytes are needed, %d of %d are left.", full.Asked, full.Left, full.Limit)
		if full.Asked > full.Limit {
			e.retry = 0 // waiting doesn't help
		}
	}
	if e.message != "" {
		e.cause = err
		return &e
	}
	e.message = err.Error()
	var own *runtime.Error
	if errors.As(err, &own) {
		e.param = own.Field
	}
	return &e
}

func badRequest(code, param, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: kindInvalid, code: code, param: param,
		message: fmt.Sprintf(format, args...),
	}
}

// shorten makes a text of the client's fit for an error message.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// append writes the error as {"error":{...}}.
func (e *apiError) append(b []byte, requestID string) []byte {
	message := e.message
	if e.cause != nil {
		message += " (request id " + requestID + ")"
	}
	b = appendString(append(b, `{"error":{"message":`...), message)
	b = appendString(append(b, `,"type":`...), e.kind)
	b = append(b, `,"param":`...)
	if e.param == "" {
		b = append(b, "null"...)
	} else {
		b = appendString(b, e.param)
	}
	b = appendString(append(b, `,"code":`...), e.code)
	return append(b, "}}"...)
}

// fail answers with an error before anything else was written.
func (a *API) fail(c *gin.Context, e *apiError) {
	id := a.requestID(c)
	a.report(c, e, id)
	if e.retry > 0 {
		c.Header("Retry-After", strconv.Itoa(e.retry))
	}
	sendJSON(c, e.status, e.append(nil, id))
}

// report gives the application what the client isn't told. That a client went
// away is no fault.
func (a *API) report(c *gin.Context, e *apiError, id string) {
	if e.cause != nil && e.status != statusClientClosed {
		_ = c.Error(fmt.Errorf("request %s: %w", id, e.cause))
	}
}

// headerRequestID names a request in its answer.
const headerRequestID = "X-Request-Id"

// requestID is the id that the application or the client gave the request, or
// a new one, and puts it into the answer's header.
func (a *API) requestID(c *gin.Context) string {
	for _, id := range []string{c.Writer.Header().Get(headerRequestID), c.GetHeader(headerRequestID)} {
		if id != "" && len(id) <= 128 && strings.Trim(id, idLetters) == "" {
			c.Header(headerRequestID, id)
			return id
		}
	}
	id := "req_" + a.newID()
	c.Header(headerRequestID, id)
	return id
}

const idLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:"
