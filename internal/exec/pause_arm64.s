//go:build !purego

#include "textflag.h"

// func pause()
//
// YIELD is a no-op on most cores; ISB takes about as long as PAUSE on amd64.
TEXT ·pause(SB), NOSPLIT, $0-0
	ISB $15
	RET
