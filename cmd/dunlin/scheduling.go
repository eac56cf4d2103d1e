package main

import (
	"errors"
	"fmt"
	"math"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/httpapi"
	"github.com/dunlin-go/dunlin/runtime"
)

// schedulingFlags say whose requests the server takes and who comes first.
type schedulingFlags struct {
	TenantHeader    headerName     `placeholder:"NAME" help:"Requests with the same value of this header, of at most 64 bytes, share fairly with the others as one tenant. For use behind a proxy that authenticates and sets it: whoever reaches the server otherwise chooses a tenant."`
	TenantWeight    []tenantWeight `sep:"none" placeholder:"TENANT=W" help:"A tenant's share of what is computed while others wait (default: 1); may be repeated."`
	PrivatePrefixes bool           `help:"Tenants don't start from each other's computed prompts."`
	AllowPriority   *priorities    `placeholder:"FIRST:LAST" help:"Requests may have a priority in these bounds, such as 0:10: the lower, the earlier; 0 is where others stand. Below 0 any client can keep the others waiting (default: none may)."`
}

// check reports flags that would do nothing.
func (f *schedulingFlags) check() error {
	switch {
	case f.TenantHeader != "":
	case len(f.TenantWeight) > 0:
		return errors.New("--tenant-weight needs --tenant-header, without which there are no tenants")
	case f.PrivatePrefixes:
		return errors.New("--private-prefixes needs --tenant-header, without which there are no tenants")
	}
	seen := map[string]bool{}
	for _, t := range f.TenantWeight {
		if seen[t.tenant] {
			return fmt.Errorf("--tenant-weight has tenant %q twice", t.tenant)
		}
		seen[t.tenant] = true
	}
	return nil
}

func (f *schedulingFlags) ofModel() (opts []runtime.Option) {
	for _, t := range f.TenantWeight {
		opts = append(opts, runtime.WithTenantWeight(t.tenant, t.weight))
	}
	if f.PrivatePrefixes {
		opts = append(opts, runtime.WithPrivatePrefixes())
	}
	return opts
}

func (f *schedulingFlags) ofAPI() (opts []httpapi.Option) {
	if f.TenantHeader != "" {
		opts = append(opts, httpapi.WithScheduling(f.TenantHeader.tenant))
	}
	if f.AllowPriority != nil {
		opts = append(opts, httpapi.AllowPriority(f.AllowPriority.first, f.AllowPriority.last))
	}
	return opts
}

// headerName is the name of an HTTP header, in its canonical form.
type headerName string

// maxTenantBytes is the runtime's.
const maxTenantBytes = 64

// UnmarshalText takes the names that a request's headers can have. net/http keeps
// Host elsewhere.
func (h *headerName) UnmarshalText(text []byte) error {
	name := textproto.CanonicalMIMEHeaderKey(string(text))
	if name == "" || strings.Trim(name, headerLetters) != "" || name == "Host" {
		return fmt.Errorf("%q is not the name of a header such as X-Tenant", text)
	}
	*h = headerName(name)
	return nil
}

const headerLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// tenant is whose request it is: nobody's without the header. Two of them are
// refused, for one may be the client's and the other one the proxy's.
func (h headerName) tenant(c *gin.Context) (httpapi.Scheduling, error) {
	values := c.Request.Header[string(h)]
	switch {
	case len(values) == 0:
		return httpapi.Scheduling{}, nil
	case len(values) > 1:
		return httpapi.Scheduling{}, h.refuse("the header %s is there %d times", h, len(values))
	case len(values[0]) > maxTenantBytes:
		return httpapi.Scheduling{}, h.refuse("the header %s has %d bytes, it may have %d", h, len(values[0]), maxTenantBytes)
	}
	return httpapi.Scheduling{Tenant: values[0]}, nil
}

func (h headerName) refuse(format string, args ...any) error {
	return &runtime.Error{Code: runtime.CodeInvalidRequest, Field: string(h), Err: fmt.Errorf(format, args...)}
}

// tenantWeight is TENANT=W on the command line.
type tenantWeight struct {
	tenant string
	weight float64
}

// UnmarshalText reads up to the last equals sign; the weight's bounds are those
// of [runtime.WithTenantWeight].
func (t *tenantWeight) UnmarshalText(text []byte) error {
	at := strings.LastIndexByte(string(text), '=')
	if at < 0 || at > maxTenantBytes {
		return fmt.Errorf("%q is not a tenant of at most %d bytes and its weight, such as ann=2", text, maxTenantBytes)
	}
	w, err := strconv.ParseFloat(string(text[at+1:]), 64)
	if err != nil || !(w >= 1e-6 && w <= 1e6) { // NaN fails too
		return fmt.Errorf("the weight in %q must be a number in [1e-6, 1e6]", text)
	}
	t.tenant, t.weight = string(text[:at]), w
	return nil
}

// priorities are FIRST:LAST on the command line.
type priorities struct{ first, last int }

// UnmarshalText demands that 0 is among them.
func (p *priorities) UnmarshalText(text []byte) error {
	first, last, _ := strings.Cut(string(text), ":")
	lo, errLo := strconv.ParseInt(first, 10, 32)
	hi, errHi := strconv.ParseInt(last, 10, 32)
	const most = math.MaxInt32 / 2
	if errLo != nil || errHi != nil || lo > 0 || hi < 0 || lo == hi || lo < -most || hi > most {
		return fmt.Errorf("%q are not bounds such as -5:5 with 0 between them", text)
	}
	p.first, p.last = int(lo), int(hi)
	return nil
}
