package main

import "testing"

func TestParseSmaps(t *testing.T) {
	const rollup = `00400000-7ffc0000 ---p 00000000 00:00 0    [rollup]
Rss:              102400 kB
Pss:               60000 kB
Shared_Clean:      50000 kB
Shared_Dirty:         10 kB
Private_Clean:     46000 kB
Private_Dirty:      6390 kB
Swap:                  0 kB
`
	m, ok := parseSmaps([]byte(rollup))
	if !ok || m.private != 6390<<10 || m.shared != 96010<<10 {
		t.Errorf("got %+v, %v", m, ok)
	}
	for _, bad := range []string{"", "Private_Dirty:", "Private_Dirty: x kB", "\x00"} {
		if m, ok := parseSmaps([]byte(bad)); ok {
			t.Errorf("%q gave %+v", bad, m)
		}
	}
	if m, ok := processMemory(); ok && (m.private <= 0 || m.shared <= 0) {
		t.Errorf("this process has %+v", m)
	}
}
