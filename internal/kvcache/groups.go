package kvcache

// groups says how a model's layers share the pages of a block, 32 tokens of a
// sequence. A block has a page for each group of equally many layers, so that all
// pages have one size and any can take the place of any other. The layers of a
// group either all attend to all positions or all see the window: its pages can be
// given back as soon as the block lies before the window of every token to come.
//
// Source: the hybrid KV cache of vLLM; Kwon et al. 2023, https://arxiv.org/abs/2309.06180,
// for pages.
type groups struct {
	layers   int // on a page
	full     int // groups that attend to all positions, one at least: the first ones
	windowed int // groups that see a window
	window   int // positions that they see, the newest one the last
}

// minPageBytes bounds how small groups may make a page: its record then takes less
// than a twentieth of it.
const minPageBytes = 8 << 10

// groups divides the layers into groups as large as can be. It is one group, of
// which nothing is given back, where no layer has a window or all have, and where
// pages would be too small.
func (s Shape) groups() groups {
	windowed := 0
	for _, w := range s.Windowed {
		if w {
			windowed++
		}
	}
	if full := s.Layers - windowed; windowed > 0 && full > 0 && len(s.Windowed) == s.Layers && s.Window > 0 {
		one := s
		one.Layers, one.Windowed = gcd(full, windowed), nil
		if one.PageBytes() >= minPageBytes {
			return groups{one.Layers, full / one.Layers, windowed / one.Layers, s.Window}
		}
	}
	return groups{layers: s.Layers, full: 1}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// order is each layer's place on the pages, those of the first group first; nil
// where there is but one group.
func (s Shape) order() []int32 {
	g := s.groups()
	if g.windowed == 0 {
		return nil
	}
	order := make([]int32, s.Layers)
	full, windowed := int32(0), int32(g.full*g.layers)
	for i, w := range s.Windowed {
		if w {
			order[i] = windowed
			windowed++
		} else {
			order[i] = full
			full++
		}
	}
	return order
}

// block is the number of pages of a block.
func (g groups) block() int { return g.full + g.windowed }

// first is the first block that windowed layers look at in what comes after done
// tokens.
func (g groups) first(done int) int {
	if g.windowed == 0 {
		return 0
	}
	return max(0, done+1-g.window) / PageTokens
}

// reach is how many blocks the windows of a page's worth of tokens touch at most.
func (g groups) reach() int {
	positions := g.window - 1 + PageTokens
	return (positions+PageTokens-2)/PageTokens + 1 // from the last token of a page on
}

// pagesFor is how many pages a sequence of so many tokens needs at once: so much
// that it can go on by a page's worth of tokens in a step.
func (g groups) pagesFor(tokens int) int {
	n := Blocks(tokens)
	return g.full*n + g.windowed*min(n, g.reach())
}

// capacity is how many tokens a sequence can come to on so many pages.
func (g groups) capacity(pages int) int {
	n := pages / g.block()
	if g.windowed > 0 && n >= g.reach() {
		n = (pages - g.windowed*g.reach()) / g.full
	}
	return n * PageTokens
}

// Blocks is the number of blocks that tokens take.
func Blocks(tokens int) int { return (tokens + PageTokens - 1) / PageTokens }

// PagesFor is the number of pages that a sequence of so many tokens needs at once.
func (s Shape) PagesFor(tokens int) int { return s.groups().pagesFor(tokens) }

// PagesAhead is the number of pages that a step of so many tokens takes, besides
// PagesFor, for what is behind the window when it is over.
func (s Shape) PagesAhead(tokens int) int { return s.groups().windowed * Blocks(tokens) }
