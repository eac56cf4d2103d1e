package main

// longText is from how many tokens on a mean log-probability is held to the closer
// bound.
const longText = 400

// verifyBounds are how far the native engine may be from the reference.
type verifyBounds struct {
	Logit     float64 `json:"logit"`
	LogitOne  float64 `json:"logit_one"`
	Mean      float64 `json:"mean"`
	MeanLong  float64 `json:"mean_long"`
	KL        float64 `json:"kl"`
	Margin    float64 `json:"margin"`
	Agreement float64 `json:"agreement"`
}

// The bounds without flags, by the format of activations; docs/accuracy.md has the
// measurements they come from.
var (
	int8Bounds = verifyBounds{Logit: 1, LogitOne: 2.5, Mean: 0.03, MeanLong: 0.003, KL: 0.015, Margin: 0.3, Agreement: 0.95}
	f32Bounds  = verifyBounds{Logit: 0.01, LogitOne: 0.01, Mean: 1e-4, MeanLong: 1e-4, KL: 1e-8, Margin: 0.02, Agreement: 1}
)

// boundFlags replace bounds.
type boundFlags struct {
	MaxLogit     *float64 `placeholder:"D" help:"Most that one of the reference's 20 highest logits may differ by after a text (default: 1, or 0.01 with --activations f32)."`
	MaxLogitOne  *float64 `placeholder:"D" help:"The same for a text of one token (default: 2.5, or 0.01)."`
	MaxMean      *float64 `placeholder:"SHARE" help:"Most that a text's mean log-probability may be off (default: 0.03, or 0.0001)."`
	MaxMeanLong  *float64 `placeholder:"SHARE" help:"The same from 400 tokens on (default: 0.003, or 0.0001)."`
	MaxKL        *float64 `name:"max-kl" placeholder:"NATS" help:"Most that the mean KL divergence over a text's positions may be (default: ${kl_int8}, or ${kl_f32})."`
	Margin       *float64 `placeholder:"D" help:"Where the reference's likeliest token is so much ahead, it must be the native engine's too (default: 0.3, or 0.02)."`
	MinAgreement *float64 `placeholder:"SHARE" help:"Least share of a text's positions of which that must hold (default: ${agreement_int8}, or ${agreement_f32})."`
}

// bounds are the defaults with what the flags replace.
func (f *boundFlags) bounds(a activations) verifyBounds {
	b := int8Bounds
	if a == "f32" {
		b = f32Bounds
	}
	for to, from := range map[*float64]*float64{
		&b.Logit: f.MaxLogit, &b.LogitOne: f.MaxLogitOne, &b.Mean: f.MaxMean, &b.MeanLong: f.MaxMeanLong,
		&b.KL: f.MaxKL, &b.Margin: f.Margin, &b.Agreement: f.MinAgreement,
	} {
		if from != nil {
			*to = *from
		}
	}
	return b
}
