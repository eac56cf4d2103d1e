package jinja

import (
	"strings"
	"testing"
)

// TestListsMadeOfTextsAreCounted: what is made of each character or part of a text
// takes many times as much as the text.
func TestListsMadeOfTextsAreCounted(t *testing.T) {
	vars := map[string]Value{
		"text": String(strings.Repeat("ab", 20_000)), "commas": String(strings.Repeat(",", 15_000)), "one": NewList(Int(1)),
	}
	for _, src := range []string{
		`{% for i in range(10) %}{% set x = 'c'.strip(text) %}{% endfor %}`,
		`{% set x = one|sort(attribute=commas) %}`,
		`{% set x = one|sort(attribute=commas[:900]) %}`,
		`{% set x = one|map(attribute=commas)|list %}`,
	} {
		checkCounted(t, src, vars)
	}
}
