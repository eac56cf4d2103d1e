package sampler

import "strings"

// Stopper watches a text that arrives in pieces for the first of some stop
// strings, and holds back what could be the beginning of one. Its zero value
// watches for nothing.
type Stopper struct {
	stops []string
	held  string
}

// NewStopper watches for any of stops, none of them empty.
func NewStopper(stops []string) Stopper { return Stopper{stops: stops} }

// Push adds a piece. It returns the text that can be said now, and whether a
// stop string has been reached: the text ends before it, and nothing follows.
func (s *Stopper) Push(piece string) (text string, stopped bool) {
	if len(s.stops) == 0 {
		return piece, false
	}
	all := piece // as it is where nothing was held back: joining allocates
	if s.held != "" {
		all = s.held + piece
	}
	at := -1
	for _, stop := range s.stops {
		if i := strings.Index(all, stop); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at >= 0 {
		s.held = ""
		return all[:at], true
	}
	hold := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(all)); n > hold; n-- {
			if strings.HasSuffix(all, stop[:n]) {
				hold = n
				break
			}
		}
	}
	s.held = all[len(all)-hold:]
	return all[:len(all)-hold], false
}

// Rest returns what was held back, at the end of a text.
func (s *Stopper) Rest() string {
	rest := s.held
	s.held = ""
	return rest
}
