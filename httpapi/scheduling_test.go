package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/runtime"
)

// recorder keeps what a generator was asked last.
type recorder struct {
	runtime.Generator
	started int
	last    runtime.Request
}

func (r *recorder) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	r.started++
	r.last = req
	return r.Generator.Start(ctx, req)
}

func TestPriority(t *testing.T) {
	boss := WithScheduling(func(*gin.Context) (Scheduling, error) { return Scheduling{Priority: 100}, nil })
	extreme := WithScheduling(func(*gin.Context) (Scheduling, error) { return Scheduling{Priority: -1 << 31}, nil })
	for _, tc := range []struct {
		name   string
		opts   []Option
		fields string
		want   int
		code   string // of the refusal
	}{
		{"absent", nil, ``, 0, ""},
		{"null", nil, `"priority":null`, 0, ""},
		{"the default", nil, `"priority":0`, 0, ""},
		{"not allowed", nil, `"priority":-1`, 0, "unsupported_parameter"},
		{"not allowed, and unknown fields ignored", []Option{IgnoreUnknownFields()}, `"priority":5`, 0, "unsupported_parameter"},
		{"not allowed, and the application's", []Option{boss}, `"priority":5`, 0, "unsupported_parameter"},
		{"not a number", nil, `"priority":"high"`, 0, "invalid_type"},
		{"not an integer", []Option{AllowPriority(-5, 5)}, `"priority":1.5`, 0, "invalid_value"},
		{"too large", []Option{AllowPriority(-5, 5)}, `"priority":99999999999999999999`, 0, "invalid_value"},
		{"earlier than may be", []Option{AllowPriority(-5, 5)}, `"priority":-6`, 0, "invalid_value"},
		{"later than may be", []Option{AllowPriority(-5, 5)}, `"priority":6`, 0, "invalid_value"},
		{"earliest", []Option{AllowPriority(-5, 5)}, `"priority":-5`, 5, ""},
		{"latest", []Option{AllowPriority(-5, 5)}, `"priority":5`, -5, ""},
		{"back only", []Option{AllowPriority(0, 9)}, `"priority":9`, -9, ""},
		{"forward where back is allowed", []Option{AllowPriority(0, 9)}, `"priority":-1`, 0, "invalid_value"},
		{"the application's", []Option{boss}, ``, 100, ""},
		{"both", []Option{boss, AllowPriority(-5, 5)}, `"priority":5`, 95, ""},
		{"as far as can be", []Option{extreme, AllowPriority(0, maxPriority)}, `"priority":1073741823`, -2 * maxPriority, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := &recorder{Generator: fake(t)}
			e := engine(New(rec, tc.opts...))
			for path, body := range map[string]string{
				chatPath:          ask(tc.fields),
				"/v1/completions": strings.Replace(ask(tc.fields), `"messages":[{"role":"user","content":"Hi"}]`, `"prompt":"Hi"`, 1),
			} {
				rec.started = 0
				w := do(e, http.MethodPost, path, body)
				if tc.code != "" {
					wantError(t, w, 400, tc.code, "priority")
					if rec.started > 0 {
						t.Error("the refused request was started")
					}
				} else if w.Code != 200 || rec.last.Priority != tc.want {
					t.Errorf("%d %s, the priority is %d, want %d", w.Code, w.Body, rec.last.Priority, tc.want)
				}
			}
		})
	}
}

func TestAllowPriorityPanics(t *testing.T) {
	for _, bounds := range [][2]int{{1, 5}, {-5, -1}, {5, -5}, {-1 << 30, 0}, {0, 1 << 30}} {
		func() {
			defer func() {
				if p, _ := recover().(string); !strings.HasPrefix(p, "httpapi: ") {
					t.Errorf("%v: it panicked with %q", bounds, p)
				}
			}()
			AllowPriority(bounds[0], bounds[1])
		}()
	}
}

// TestCacheSalt: no two pairs of an application's and a client's salt meet.
func TestCacheSalt(t *testing.T) {
	rec := &recorder{Generator: fake(t)}
	var own string
	e := engine(New(rec, WithScheduling(func(*gin.Context) (Scheduling, error) { return Scheduling{CacheSalt: own}, nil })))
	plain := engine(New(rec))
	seen := map[string]string{}
	long := strings.Repeat("s", maxSaltBytes)
	for _, application := range []string{"", "a", "ab", "1:a", long[:64]} {
		own = application
		for _, client := range []string{"", "a", "b", "ab", "1:a", long} {
			fields := `"cache_salt":"` + client + `"`
			if client == "" {
				fields = ""
			}
			if w := do(e, http.MethodPost, chatPath, ask(fields)); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			got := rec.last.CacheSalt
			pair := application + "/" + client
			if other, dup := seen[got]; dup {
				t.Errorf("%s has the salt of %s", pair, other)
			}
			seen[got] = pair
			if client == "" && got != application {
				t.Errorf("the application's salt %q became %q", application, got)
			}
			do(e, http.MethodPost, chatPath, ask(fields))
			if rec.last.CacheSalt != got {
				t.Errorf("%s has two salts", pair)
			}
			if application == "" {
				do(plain, http.MethodPost, chatPath, ask(fields))
				if rec.last.CacheSalt != got {
					t.Errorf("%s has another salt without a hook", pair)
				}
			}
		}
	}
	for fields, code := range map[string]string{
		`"cache_salt":""`:              "invalid_value",
		`"cache_salt":"` + long + `s"`: "invalid_value",
		`"cache_salt":1`:               "invalid_type",
	} {
		wantError(t, do(e, http.MethodPost, chatPath, ask(fields)), 400, code, "cache_salt")
	}
}

// TestScheduling: what the application decides reaches the generator and changes
// nothing else; nothing that a client sends is taken for its tenant.
func TestScheduling(t *testing.T) {
	rec := &recorder{Generator: fake(t)}
	e := engine(New(rec, WithScheduling(func(c *gin.Context) (Scheduling, error) {
		return Scheduling{Tenant: c.GetHeader("X-Key"), Priority: 3, CacheSalt: "s"}, nil
	})))
	const fields = `"temperature":0,"max_tokens":2,"user":"u","safety_identifier":"i","prompt_cache_key":"k"`
	r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(ask(fields)))
	r.Header.Set("X-Key", "ann")
	e.ServeHTTP(httptest.NewRecorder(), r)
	want := runtime.Request{Messages: []runtime.Message{{Role: "user", Content: "Hi"}}, MaxTokens: 2, Tenant: "ann", Priority: 3, CacheSalt: "s"}
	if diff := cmp.Diff(want, rec.last); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	do(e, http.MethodPost, chatPath, ask(fields))
	if want.Tenant = ""; !cmp.Equal(want, rec.last) {
		t.Errorf("without a key: %s", cmp.Diff(want, rec.last))
	}
	do(engine(New(rec)), http.MethodPost, chatPath, ask(fields))
	if want.Priority, want.CacheSalt = 0, ""; !cmp.Equal(want, rec.last) {
		t.Errorf("without a hook: %s", cmp.Diff(want, rec.last))
	}
	wantError(t, do(e, http.MethodPost, chatPath, ask(`"tenant":"ann"`)), 400, "unknown_parameter", "tenant")
}

// TestSchedulingRefuses: whatever the hook does, the client gets one answer, the
// generator nothing, and what isn't for clients only the application sees.
func TestSchedulingRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		decide func(*gin.Context) (Scheduling, error)
		status int
		code   string
		param  string
		told   string // to the application
	}{
		{"an error", func(*gin.Context) (Scheduling, error) { return Scheduling{}, errors.New("a secret") }, 500, "internal_error", "", "a secret"},
		{"a panic", func(*gin.Context) (Scheduling, error) { panic("a secret") }, 500, "internal_error", "", "a secret"},
		{"a tenant that is too long", func(*gin.Context) (Scheduling, error) {
			return Scheduling{Tenant: strings.Repeat("secret", 11)}, nil
		}, 500, "internal_error", "", "the tenant has 66 bytes"},
		{"a salt that is too long", func(*gin.Context) (Scheduling, error) {
			return Scheduling{CacheSalt: strings.Repeat("secret", 11)}, nil
		}, 500, "internal_error", "", "the cache salt has 66 bytes"},
		{"a header of the client's", func(*gin.Context) (Scheduling, error) {
			return Scheduling{}, &runtime.Error{Code: runtime.CodeInvalidRequest, Field: "X-Key", Err: errors.New("no such key")}
		}, 400, "invalid_value", "X-Key", ""},
		{"a quota", func(*gin.Context) (Scheduling, error) {
			return Scheduling{}, &runtime.Error{Code: runtime.CodeOverloaded, Err: errors.New("a secret quota")}
		}, 429, "overloaded", "", "a secret quota"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := &recorder{Generator: fake(t)}
			told := ""
			e := gin.New()
			e.Use(func(c *gin.Context) { c.Next(); told = c.Errors.String() })
			New(rec, WithScheduling(tc.decide)).Mount(e)
			for _, fields := range []string{``, `"stream":true`, `"cache_salt":"x"`} {
				w := do(e, http.MethodPost, chatPath, ask(fields))
				wantError(t, w, tc.status, tc.code, tc.param)
				if strings.Contains(w.Body.String(), "secret") || !strings.Contains(told, tc.told) || (told == "") != (tc.told == "") {
					t.Errorf("the client is told %s, the application %q", w.Body, told)
				}
				if tc.status == 429 && w.Header().Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			}
			if rec.started > 0 {
				t.Errorf("%d requests were started", rec.started)
			}
		})
	}
	t.Run("an answer of its own", func(t *testing.T) {
		rec := &recorder{Generator: fake(t)}
		e := engine(New(rec, WithScheduling(func(c *gin.Context) (Scheduling, error) {
			c.AbortWithStatusJSON(http.StatusPaymentRequired, "pay")
			return Scheduling{}, nil
		})))
		if w := do(e, http.MethodPost, chatPath, ask("")); w.Code != http.StatusPaymentRequired || w.Body.String() != `"pay"` || rec.started > 0 {
			t.Errorf("%d %s, %d requests were started", w.Code, w.Body, rec.started)
		}
	})
}
