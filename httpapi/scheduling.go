package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/runtime"
)

// Bounds of what a request may say about its scheduling.
const (
	maxPriority  = 1<<30 - 1 // two of them are an int everywhere
	maxSaltBytes = 1024      // vLLM's
)

// Scheduling is what an application decides about a request. Its zero value is
// what requests have without it.
type Scheduling struct {
	// Tenant is the [runtime.Request]'s, at most 64 bytes.
	Tenant string
	// Priority is the [runtime.Request]'s: the higher, the earlier. Beyond 2^30
	// it means that much.
	Priority int
	// CacheSalt is the [runtime.Request]'s, at most 64 bytes. A client's
	// cache_salt divides it further and never leads to another one.
	CacheSalt string
}

// WithScheduling asks decide on whose behalf each request is made and how it is
// scheduled, from what the application knows, such as its authentication. It is
// called on the request's goroutine when the body has been read. A
// [runtime.Error] refuses the request with its code's status; any other error,
// a panic or a result out of bounds is the application's fault and answered with
// status 500. A decide that answers by itself aborts c. Without this option all
// requests are the empty tenant's.
func WithScheduling(decide func(c *gin.Context) (Scheduling, error)) Option {
	return func(a *API) { a.decide = decide }
}

// AllowPriority lets requests have a field priority from earliest to latest, as
// vLLM's have: the lower the number, the earlier the request is handled, and 0
// is where it stands without the field. [runtime.Request] counts the other way
// round; the field is subtracted from the application's [Scheduling]. Priorities
// are strict, so AllowPriority(0, n) lets clients step back only, while any of
// them can keep the others waiting where earliest is below 0. Without this option
// a priority other than 0 is refused. It panics where 0 lies outside of the
// bounds or they lie beyond 2^30.
func AllowPriority(earliest, latest int) Option {
	if earliest > 0 || latest < 0 || earliest < -maxPriority || latest > maxPriority {
		panic(fmt.Sprintf("httpapi: priorities from %d to %d can't be allowed", earliest, latest))
	}
	return func(a *API) { a.earliest, a.latest = earliest, latest }
}

func setPriority(r *request, v gjson.Result) *fault {
	if v.Type != gjson.Number {
		return wrongType("an integer", v)
	}
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	switch a := r.api; {
	case err != nil:
		return wrongValue("it must be an integer of 64 bits")
	case n != 0 && a.earliest == a.latest:
		return &fault{code: codeUnsupported, why: "this server doesn't let requests choose their priority"}
	case n < int64(a.earliest) || n > int64(a.latest):
		return wrongValue("it must lie in [%d, %d], and the lower is the earlier", a.earliest, a.latest)
	}
	r.priority = int(n)
	return nil
}

func setCacheSalt(r *request, v gjson.Result) *fault {
	if bad := toString(v, &r.cacheSalt); bad != nil {
		return bad
	}
	if n := len(r.cacheSalt); n < 1 || n > maxSaltBytes {
		return wrongValue("it has %d bytes, it must have 1 to %d", n, maxSaltBytes)
	}
	return nil
}

// schedule puts the application's decision and the request's own fields
// together.
func (r *reply) schedule() *apiError {
	var s Scheduling
	if r.api.decide != nil {
		var err error
		if s, err = r.api.decide(r.c); err != nil {
			return r.fromError(err)
		}
		within := runtime.Request{Prompt: "any", Tenant: s.Tenant, CacheSalt: s.CacheSalt}
		if err := within.Validate(); err != nil { // no client can mend that
			return fromError(fmt.Errorf("the application's scheduling: %s", err.Error()))
		}
	}
	gen := &r.req.gen
	gen.Tenant, gen.CacheSalt = s.Tenant, joinSalts(s.CacheSalt, r.req.cacheSalt)
	gen.Priority = min(max(s.Priority, -maxPriority), maxPriority) - r.req.priority
	return nil
}

// joinSalts keeps a client's salt inside the application's: whatever a client
// sends, the result is neither a salt that the application gives nor one of
// another pair.
func joinSalts(application, client string) string {
	if client == "" {
		return application
	}
	sum := sha256.Sum256([]byte(strconv.Itoa(len(application)) + ":" + application + client))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}
