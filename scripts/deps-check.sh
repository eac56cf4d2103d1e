#!/usr/bin/env bash
# Demands that package runtime links nothing but what runtime-deps.txt allows, on
# every system, that no package needs cgo, and that DEPENDENCIES.md lists every
# module that go.mod asks for.
set -euo pipefail
cd "$(dirname "$0")/.."
module=$(go list -m)
status=0

for os in linux darwin windows; do
	extra=$(GOOS=$os CGO_ENABLED=0 go list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./runtime |
		grep -v "^$module/" | grep -vxFf scripts/runtime-deps.txt || true)
	if [[ -n $extra ]]; then
		echo "on $os, package runtime links what scripts/runtime-deps.txt doesn't allow:" $extra >&2
		status=1
	fi
	own=$(GOOS=$os CGO_ENABLED=0 go list -deps ./runtime | grep -E "^$module/(httpapi|cmd|cbind|models/hub|runtime/.*)" || true)
	if [[ -n $own ]]; then
		echo "on $os, package runtime imports upwards:" $own >&2
		status=1
	fi
done

# Built with CGO_ENABLED=0, such a package would be left out without a word.
cgo=$(CGO_ENABLED=1 go list -f '{{if .CgoFiles}}{{.ImportPath}}{{end}}' ./...)
if [[ -n $cgo ]]; then
	echo "these packages use cgo:" $cgo >&2
	status=1
fi

while read -r dep; do
	if ! grep -qF "\`$dep\`" DEPENDENCIES.md; then
		echo "DEPENDENCIES.md says nothing about $dep" >&2
		status=1
	fi
done < <(go list -m -f '{{if not (or .Main .Indirect)}}{{.Path}}{{end}}' all)
exit $status
