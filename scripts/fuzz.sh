#!/usr/bin/env bash
# Runs every fuzz target of the module with a number of inputs: a count, not a
# time, so that a slow machine tests as much as a fast one.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-20000}

targets=$(grep -rnE --include='*_test.go' --exclude-dir='.?*' '^func Fuzz[A-Za-z0-9_]+\(' . |
	sed -E 's|^\./(.*)/[^/]+_test\.go:[0-9]+:func (Fuzz[A-Za-z0-9_]+)\(.*|\1 \2|' | sort -u)
[[ -n $targets ]] || { echo "no fuzz targets were found" >&2; exit 1; }
while read -r dir name; do
	echo "fuzz ./$dir $name"
	# Without a bound, shrinking one interesting input can take all the time.
	go test -run '^$' -fuzz "^$name\$" -fuzztime "${count}x" -fuzzminimizetime 20x "./$dir"
done <<<"$targets"
echo "$(wc -l <<<"$targets") fuzz targets, $count inputs each"
