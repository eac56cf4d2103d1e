#!/usr/bin/env bash
# Holds the tokenizers to Hugging Face's on COUNT random texts a family: every
# rule that cuts text, byte-level vocabularies, and files as their library writes
# them. Needs Python with venv; installs what it compares with by name.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-100000} seed=${2:-$RANDOM}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=.bin/tokenizers
[[ -x $venv/bin/tokenizers-ready ]] || {
	python3 -m venv "$venv"
	"$venv/bin/pip" install -q tokenizers gguf numpy
	ln -sf python "$venv/bin/tokenizers-ready"
}
python() { PYTHONDONTWRITEBYTECODE=1 nice "$venv/bin/python" "$@"; }
data=tokenizer/testdata
go test -c -o "$work/test" ./tokenizer
check() { # a folder of cases against the test of the name
	cp "$data/smollm.vocab.json.gz" "$data/smollm.cases.json" "$1"
	(cd tokenizer && DUNLIN_TEST_VOCABS=$1 "$work/test" -test.run "$2" -test.v) >"$work/log" || { grep -v '^=== ' "$work/log" | head -50; exit 1; }
	echo "$3: $count texts, none differs"
	rm -rf "$1"
}

echo "seed $seed"
for name in $(python -c 'import json; print(*[r["names"][0] for r in json.load(open("tokenizer/pretokenizers.json"))])'); do
	mkdir "$work/pieces"
	python "$data/golden.py" pieces "$work/pieces/$name.pieces.json" "$count" "$seed" "$name"
	check "$work/pieces" "TestPieces/$name" "pieces of $name"
done
for name in gpt-2:gpt-2 gpt-2:llama-bpe gpt-2:qwen2 smollm:smollm starcoder:starcoder falcon:falcon deepseek-coder:deepseek-coder; do
	vocab=${name%:*} rule=${name#*:}
	mkdir "$work/ids"
	cp "$data/$vocab.vocab.json.gz" "$work/ids"
	python "$data/golden.py" fuzz "$data/$vocab.vocab.json.gz" "$rule" "$work/ids/$vocab.$rule.cases.json" "$count" "$seed"
	check "$work/ids" TestGolden "ids of $vocab cut as $rule"
done
mkdir -p "$work/files/json"
cat docs/*.md docs/adr/*.md >"$work/training.txt"
python "$data/tokenizerjson.py" "$work/files/json" "$work/training.txt" "$count" "$seed" >/dev/null
check "$work/files" 'TestJSON$' "ten kinds of tokenizer.json"
