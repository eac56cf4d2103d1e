package loadsim

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Figures are what a replay measured. Times count from when a request was due, so
// that a late client doesn't flatter the target; rates are over the whole duration.
type Figures struct {
	Requests  int       `json:"requests"` // of the trace
	Done      int       `json:"done"`     // answered to the end
	Failed    int       `json:"failed"`
	NotSent   int       `json:"not_sent"` // as the run was interrupted
	Failures  []Failed  `json:"failures"` // the most frequent first
	Seconds   float64   `json:"seconds"`  // from the first arrival to the last end
	PerSecond float64   `json:"requests_per_second"`
	Peak      int       `json:"peak_in_flight"` // requests under way at once
	Late      Quantiles `json:"client_late_ms"` // from due to sent; large: the client didn't keep up

	PromptTokens    int     `json:"prompt_tokens"` // of the requests that were done, as below
	AskedPrompt     int     `json:"prompt_tokens_of_trace"`
	CachedTokens    *int    `json:"cached_prompt_tokens"` // null where the target doesn't tell
	OutputTokens    int     `json:"output_tokens"`
	AskedOutput     int     `json:"output_tokens_of_trace"`
	PromptPerSecond float64 `json:"prompt_tokens_per_second"`
	OutputPerSecond float64 `json:"output_tokens_per_second"`
	// CountedBy says where tokens come from: "usage", as the target tells;
	// "pieces", where it doesn't: pieces of text, and the trace's prompt lengths; or
	// "usage and pieces".
	CountedBy string `json:"tokens_counted_by"`

	TimeToFirstToken   Quantiles `json:"time_to_first_token_ms"`
	TimeBetweenTokens  Quantiles `json:"time_between_tokens_ms"`   // between pieces of text, of all requests
	TimePerOutputToken float64   `json:"time_per_output_token_ms"` // mean over requests: first to last piece, by tokens after the first
	EndToEnd           Quantiles `json:"end_to_end_ms"`

	Goodput *Goodput `json:"goodput,omitempty"` // nil where there are no objectives
}

// Goodput counts the requests that were done and kept all objectives.
type Goodput struct {
	Objectives string  `json:"objectives"`
	Requests   int     `json:"requests"`
	PerSecond  float64 `json:"requests_per_second"`
}

// Failed counts the failures of one cause.
type Failed struct {
	Cause   string `json:"cause"`
	Count   int    `json:"count"`
	Example string `json:"example"`
}

// Quantiles are in milliseconds, each the value of that rank; all 0 where nothing
// was measured.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// Objectives are service level objectives of one request; 0 means none.
type Objectives struct {
	FirstToken time.Duration
	Between    time.Duration // between any two pieces of the answer
	PerToken   time.Duration // in the mean of the answer
	EndToEnd   time.Duration
}

// String is the list that [ParseObjectives] reads.
func (o Objectives) String() string {
	var parts []string
	for _, f := range o.fields() {
		if *f.of > 0 {
			parts = append(parts, f.name+"="+f.of.String())
		}
	}
	return strings.Join(parts, ",")
}

type objective struct {
	name string
	of   *time.Duration
}

func (o *Objectives) fields() []objective {
	return []objective{{"ttft", &o.FirstToken}, {"tbt", &o.Between}, {"tpot", &o.PerToken}, {"e2e", &o.EndToEnd}}
}

// ParseObjectives reads a list such as ttft=500ms,tbt=50ms; tpot and e2e are the
// others.
func ParseObjectives(text string) (o Objectives, err error) {
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		known := o.fields()
		at := slices.IndexFunc(known, func(f objective) bool { return f.name == name })
		if at < 0 {
			return o, fmt.Errorf("%q is not an objective: ttft, tbt, tpot or e2e, such as ttft=500ms", part)
		}
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return o, fmt.Errorf("%q is not an objective: its time must be such as 500ms", part)
		}
		*known[at].of = d
	}
	return o, nil
}

// kept reports whether a request that was done kept to the objectives. Without a
// piece of text there was no first token.
func (o Objectives) kept(r *outcome) bool {
	under := func(limit, d time.Duration) bool { return limit == 0 || d <= limit }
	return r.pieces > 0 && under(o.FirstToken, r.first) && under(o.EndToEnd, r.end) && under(o.PerToken, r.perToken()) &&
		!slices.ContainsFunc(r.gaps, func(d time.Duration) bool { return !under(o.Between, d) })
}

// tokens is the length of the answer.
func (r *outcome) tokens() int {
	if r.usage.Told {
		return r.usage.Output
	}
	return r.pieces
}

// perToken is the mean time of a token after the first, 0 where there is none.
func (r *outcome) perToken() time.Duration {
	if r.pieces < 2 || r.tokens() < 2 {
		return 0
	}
	return (r.last - r.first) / time.Duration(r.tokens()-1)
}

// figures adds up.
func figures(t *Trace, results []outcome, took time.Duration, objectives Objectives, peak int) *Figures {
	f := &Figures{Requests: len(results), Failures: []Failed{}, Seconds: round3(took.Seconds()), Peak: peak}
	if objectives != (Objectives{}) {
		f.Goodput = &Goodput{Objectives: objectives.String()}
	}
	var first, between, end, late []time.Duration
	var perToken, answers float64
	told, cached, cachedTold := 0, 0, false
	causes := map[string]int{} // indexes of f.Failures
	for i := range results {
		r := &results[i]
		switch {
		case !r.sent:
			f.NotSent++
			continue
		case r.err != nil:
			f.Failed++
			at, known := causes[r.err.Cause]
			if !known {
				at = len(f.Failures)
				causes[r.err.Cause] = at
				f.Failures = append(f.Failures, Failed{Cause: r.err.Cause, Example: shorten(r.err.Err.Error())})
			}
			f.Failures[at].Count++
			continue
		}
		f.Done++
		f.AskedPrompt += t.Entries[i].Input
		f.AskedOutput += t.Entries[i].Output
		f.OutputTokens += r.tokens()
		if r.usage.Told {
			told++
			f.PromptTokens += r.usage.Prompt
		} else {
			f.PromptTokens += t.Entries[i].Input
		}
		cached, cachedTold = cached+r.usage.Cached, cachedTold || r.usage.CachedTold
		if r.pieces > 0 {
			first = append(first, r.first)
		}
		if per := r.perToken(); per > 0 {
			perToken, answers = perToken+per.Seconds(), answers+1
		}
		between = append(between, r.gaps...)
		end, late = append(end, r.end), append(late, r.late)
		if f.Goodput != nil && objectives.kept(r) {
			f.Goodput.Requests++
		}
	}
	slices.SortStableFunc(f.Failures, func(a, b Failed) int { return cmp.Compare(b.Count, a.Count) })
	if cachedTold {
		f.CachedTokens = &cached
	}
	switch told {
	case f.Done:
		f.CountedBy = "usage"
	case 0:
		f.CountedBy = "pieces"
	default:
		f.CountedBy = "usage and pieces"
	}
	f.PerSecond = perSecond(f.Done, took)
	if f.Goodput != nil {
		f.Goodput.PerSecond = perSecond(f.Goodput.Requests, took)
	}
	f.PromptPerSecond, f.OutputPerSecond = perSecond(f.PromptTokens, took), perSecond(f.OutputTokens, took)
	f.TimeToFirstToken, f.TimeBetweenTokens = quantiles(first), quantiles(between)
	f.EndToEnd, f.Late = quantiles(end), quantiles(late)
	if answers > 0 {
		f.TimePerOutputToken = round3(perToken / answers * 1e3)
	}
	return f
}

// quantiles sorts times.
func quantiles(times []time.Duration) Quantiles {
	if len(times) == 0 {
		return Quantiles{}
	}
	slices.Sort(times)
	at := func(q float64) float64 {
		return round3(times[min(len(times)-1, int(q*float64(len(times))))].Seconds() * 1e3)
	}
	return Quantiles{at(0.5), at(0.9), at(0.99)}
}

func perSecond(n int, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return round3(float64(n) / took.Seconds())
}

// round3 keeps what a measurement can mean.
func round3(f float64) float64 { return math.Round(f*1e3) / 1e3 }

// shorten makes a line of what a server may have said at length.
func shorten(text string) string {
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return strings.Join(strings.Fields(text), " ")
}
