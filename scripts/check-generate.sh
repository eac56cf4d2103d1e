#!/usr/bin/env bash
# Generates everything again and demands that no file changes. It compares
# files, not commits, so it also judges work that isn't committed.
set -euo pipefail
cd "$(dirname "$0")/.."

snapshot() {
	find . \( -name .git -o -name .bin -o -name bin \) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
}
before=$(snapshot)
go generate ./...
if ! changed=$(diff <(echo "$before") <(snapshot)); then
	echo "generated files are not current; \`make generate\` writes:" >&2
	sed -n 's/^> [0-9a-f]* */  /p' <<<"$changed" >&2
	exit 1
fi
