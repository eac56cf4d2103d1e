package runtimetest

import (
	"strings"
	"unicode/utf8"
)

// speaker turns the bytes of tokens into text that may be said: whole UTF-8
// sequences that can't be the beginning of a stop string.
type speaker struct {
	stops []string
	bytes []byte // the beginning of a UTF-8 sequence
	held  string // text that may be the beginning of a stop string
}

// newSpeaker leaves out stop strings that aren't UTF-8: they can't appear in a
// text that is.
func newSpeaker(stops []string) *speaker {
	s := &speaker{}
	for _, stop := range stops {
		if utf8.ValidString(stop) {
			s.stops = append(s.stops, stop)
		}
	}
	return s
}

// push adds a token's bytes and returns what became sayable. stopped says that a
// stop string is complete; nothing may be pushed then.
func (s *speaker) push(token []byte) (say string, stopped bool) {
	s.bytes = append(s.bytes, token...)
	for len(s.bytes) > 0 && utf8.FullRune(s.bytes) {
		r, size := utf8.DecodeRune(s.bytes) // U+FFFD and 1 for a byte that belongs nowhere
		s.held += string(r)
		s.bytes = s.bytes[size:]
	}
	return s.release()
}

func (s *speaker) release() (say string, stopped bool) {
	first := -1
	for _, stop := range s.stops {
		if i := strings.Index(s.held, stop); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	if first >= 0 {
		say, s.held, s.bytes = s.held[:first], "", nil
		return say, true
	}
	keep := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.held)); n > keep; n-- {
			if strings.HasSuffix(s.held, stop[:n]) {
				keep = n
			}
		}
	}
	cut := len(s.held) - keep
	say, s.held = s.held[:cut], s.held[cut:]
	return say, false
}

// rest is the text that was held back, at the end of an answer.
func (s *speaker) rest() string {
	say := s.held
	if len(s.bytes) > 0 {
		say += string(utf8.RuneError)
	}
	s.held, s.bytes = "", nil
	return say
}
