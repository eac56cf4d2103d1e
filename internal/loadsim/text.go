package loadsim

import (
	"math/rand/v2"
	"strings"
)

// words are common enough to be one token each, with the space before it, in the
// vocabularies of most models of English; held so by a test for those at hand.
var words = strings.Fields("time people way day man thing woman life child world school state family student group country problem hand part " +
	"place case week company system program question work government number night point home water room mother area " +
	"money story fact month lot right study book eye job word business issue side kind head house service friend " +
	"father power hour game line end member law car city community name president team minute idea body information " +
	"back parent face others level office door health person art war history party result change morning reason " +
	"research girl moment air teacher force education foot boy age policy music market sense nation plan college " +
	"interest death experience effect use class control field development role effort rate heart drug show leader " +
	"light voice wife police mind return price report decision view society building stone river window garden engine " +
	"letter silver winter north south east west green blue black white red brown summer spring food table king court " +
	"church street land sea ship horse tree paper wall road fire ground image test data model method process value " +
	"object list type form order figure space course language section example action period subject nature science " +
	"theory energy structure function distance temperature pressure surface material element analysis production " +
	"population industry region center board source trade event picture season match player record series film song " +
	"practice treatment patient hospital doctor cell blood brain skin gene disease risk cost goal step top base site " +
	"page note key code file user network machine computer software phone design project search access account")

// maxWordBytes is the longest word and its space.
const maxWordBytes = 13

// ownStream marks the streams of words that aren't a block's.
const ownStream = 1 << 63

// text makes the prompt of entry number i, a word for each token. The same seed
// and blocks give the same text.
func (t *Trace) text(i int, seed uint64) string {
	e := &t.Entries[i]
	var b strings.Builder
	b.Grow(e.Input * maxWordBytes)
	left := e.Input
	for _, id := range e.Blocks {
		n := min(left, t.BlockTokens)
		writeWords(&b, n, seed, uint64(id)&^ownStream)
		left -= n
	}
	writeWords(&b, left, seed, ownStream|uint64(i))
	return b.String()
}

// writeWords appends the first n words of a stream.
func writeWords(b *strings.Builder, n int, seed, stream uint64) {
	rng := rand.New(rand.NewPCG(seed, stream))
	for range n {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[rng.IntN(len(words))])
	}
}
