//go:build race || dunlin_debug

package bridge

// poison makes released outputs unusable.
const poison = true
