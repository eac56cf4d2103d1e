package httpapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

// maxDepth is how deep a body's JSON may be nested. The deepest that a request
// needs is 5; the validator recurses, so that it must not see more.
const maxDepth = 64

// bodyFactor is the price of a byte of a body: its text, which is there twice while
// it grows, and what parsing makes of it. The dearest are ids, of which one of two
// bytes takes four, and twice that while their list grows.
const bodyFactor = 8

// readBody reads a request's body into a string. The strings of the request
// are parts of it, so a prompt without escapes is never copied again. It is priced
// in lease as it comes, and buf is what it is read through.
func (a *API) readBody(c *gin.Context, buf []byte, lease *budget.Lease) (string, *apiError) {
	tooLarge := &apiError{
		status: http.StatusRequestEntityTooLarge, kind: kindInvalid, code: "request_too_large",
		message: "The request's body is larger than it may be.",
	}
	if t := c.GetHeader("Content-Type"); t != "" {
		media, _, err := mime.ParseMediaType(t)
		if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
			return "", &apiError{
				status: http.StatusUnsupportedMediaType, kind: kindInvalid, code: "unsupported_media_type",
				message: "The request's Content-Type must be application/json.",
			}
		}
	}
	size := c.Request.ContentLength
	if size > a.maxBody {
		return "", tooLarge
	}
	body := http.MaxBytesReader(c.Writer, c.Request.Body, a.maxBody)
	var b strings.Builder
	b.Grow(int(min(max(size, 512), 64<<10))) // a length that is only claimed isn't believed
	for {
		n, err := body.Read(buf)
		if err := lease.Reserve(budget.HTTP, bodyFactor*int64(n)); err != nil {
			return "", fromError(runtime.NewError(runtime.CodeResourceExhausted, err))
		}
		b.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if tooMany := (*http.MaxBytesError)(nil); errors.As(err, &tooMany) {
			return "", tooLarge
		}
		if err != nil {
			return "", badRequest("incomplete_body", "", "The request's body could not be read.")
		}
	}
}

// parseObject checks that body is one JSON object in UTF-8 of bounded depth.
func parseObject(body string) (gjson.Result, *apiError) {
	switch {
	case !utf8.ValidString(body):
		return gjson.Result{}, badRequest("invalid_json", "", "The request's body is not UTF-8.")
	case tooDeep(body):
		return gjson.Result{}, badRequest("invalid_json", "", "The request's JSON is nested more than %d deep.", maxDepth)
	case !gjson.Valid(body):
		return gjson.Result{}, badRequest("invalid_json", "", "The request's body is not valid JSON.")
	}
	obj := gjson.Parse(body)
	if !obj.IsObject() {
		return obj, badRequest("invalid_json", "", "The request's body must be a JSON object.")
	}
	return obj, nil
}

// tooDeep scans without recursion. Where s isn't valid JSON its answer means
// nothing, except that what it passes can be validated safely.
func tooDeep(s string) bool {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		case '"':
			i = endOfString(s, i+1)
		}
	}
	return false
}

// endOfString is where the quote stands that ends the string, whose inside
// begins at i; len(s) if there is none.
func endOfString(s string, i int) int {
	for begin := i; ; i++ {
		n := strings.IndexByte(s[i:], '"')
		if n < 0 {
			return len(s)
		}
		i += n
		slashes := 0
		for i-slashes > begin && s[i-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}
