//go:build !purego

package probe

import "testing"

func TestDesignOf(t *testing.T) {
	const amd, intel = "vendor_id\t: AuthenticAMD\n", "vendor_id\t: GenuineIntel\n"
	for info, want := range map[string]design{
		"processor\t: 0\n" + amd + "cpu family\t: 23\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\nprocessor: 1\n": zen1,
		amd + "cpu family\t: 23\nmodel\t\t: 49\n":                                                             "",
		amd + "cpu family\t: 25\nmodel\t\t: 17\n":                                                             zen4,
		amd + "cpu family\t: 25\nmodel\t\t: 1\n":                                                              zen3,
		amd + "cpu family\t: 26\nmodel\t\t: 2\n":                                                              zen5,
		intel + "cpu family\t: 6\nmodel\t\t: 143\n":                                                           intelXeonV,
		intel + "cpu family\t: 6\nmodel\t\t: 85\n":                                                            "",
		intel + "cpu family\t: six\nmodel\t\t: 85\n":                                                          "",
		"": "",
	} {
		if got := designOf(info); got != want {
			t.Errorf("%q is %q, want %q", info, got, want)
		}
	}
}
