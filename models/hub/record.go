package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
)

// maxRecordBytes is far more than a record has.
const maxRecordBytes = 4096

// record says that a file had the hash when it had this size and time. It lies
// beside the model, so that a start doesn't hash the whole file again.
type record struct {
	SHA256  string `json:"sha256"`
	Bytes   int64  `json:"bytes"`
	ModTime int64  `json:"mtime_unix_ns"`
}

// verify reports whether the file at path is the model, hashing it only where
// no record vouches for it.
func (m *Model) verify(path string) (bool, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() || fi.Size() != m.Bytes {
		return false, nil
	}
	want := record{m.SHA256, m.Bytes, fi.ModTime().UnixNano()}
	if got, ok := readRecord(path); ok && got == want {
		return true, nil
	}
	sum, _, err := hashFile(path)
	if err != nil || sum != m.SHA256 {
		return false, err
	}
	// Without a record, in a cache that can't be written to, the next start
	// hashes again.
	_ = writeRecord(path, want)
	return true, nil
}

func recordPath(path string) string { return path + ".json" }

func readRecord(path string) (record, bool) {
	f, err := os.Open(recordPath(path))
	if err != nil {
		return record{}, false
	}
	defer f.Close()
	var r record
	err = json.NewDecoder(io.LimitReader(f, maxRecordBytes)).Decode(&r)
	return r, err == nil
}

// writeRecord replaces the record as a whole: a reader never sees half of it.
func writeRecord(path string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())             // fails once it is renamed, as it should
	if err = tmp.Chmod(0o644); err != nil { // whoever may read the model may read its record
		tmp.Close()
		return err
	}
	if _, err = tmp.Write(append(data, '\n')); err != nil {
		tmp.Close()
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), recordPath(path))
}

func hashFile(path string) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
