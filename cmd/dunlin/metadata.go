package main

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/dunlin-go/dunlin/models/gguf"
)

// Bounds of what is shown without --full.
const (
	shortArray = 16 // elements
	shortText  = 80 // characters of a string in the table
)

// arraySummary stands for an array that is too long to show.
type arraySummary struct {
	Type   string `json:"type"`
	Length int    `json:"length"`
}

// metadataValue is a metadata value as encoding/json takes it: infinities and
// NaN, which JSON doesn't have, are strings, and arrays that are long are
// summarised unless full is set.
func metadataValue(v any, full bool) any {
	switch v := v.(type) {
	case float32:
		return jsonFloat(v, float64(v))
	case float64:
		return jsonFloat(v, v)
	case gguf.Strings:
		if !full && v.Len() > shortArray {
			return arraySummary{"string", v.Len()}
		}
		return v
	}
	a := reflect.ValueOf(v)
	if a.Kind() != reflect.Slice {
		return v
	}
	if !full && a.Len() > shortArray {
		return arraySummary{elementType(a), a.Len()}
	}
	out := make([]any, a.Len())
	for i := range out {
		out[i] = metadataValue(a.Index(i).Interface(), full)
	}
	return out
}

func elementType(slice reflect.Value) string {
	if name := slice.Type().Elem().Name(); name != "" {
		return name
	}
	return "array"
}

// jsonFloat keeps v, with the digits of its own width, where JSON has it.
func jsonFloat(v any, f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return v
}

// metadataText is a value of metadataValue on one line. Texts are quoted: they
// are the file's, and could hold what a terminal obeys.
func metadataText(v any, full bool) string {
	switch v := v.(type) {
	case string:
		if r := []rune(v); !full && len(r) > shortText {
			return fmt.Sprintf("%s... (%d bytes)", strconv.Quote(string(r[:shortText])), len(v))
		}
		return strconv.Quote(v)
	case arraySummary:
		return fmt.Sprintf("[%d x %s]", v.Length, v.Type)
	case gguf.Strings:
		parts := make([]string, 0, v.Len())
		for _, s := range v.All() {
			parts = append(parts, metadataText(s, full))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []any:
		parts := make([]string, 0, len(v))
		for _, e := range v {
			parts = append(parts, metadataText(e, full))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}
