//go:build !linux

package procmem

import "errors"

// Rollup is not known here.
func Rollup(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }

// Mappings are not known here.
func Mappings(int) ([]Mapping, error) { return nil, errors.ErrUnsupported }

// Self is not known here.
func Self() (Resident, error) { return Resident{}, errors.ErrUnsupported }

// Command is not known here.
func Command(int) (string, error) { return "", errors.ErrUnsupported }
