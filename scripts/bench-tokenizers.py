#!/usr/bin/env python3
"""Encodes 1 MB of English and of code with dunlin and with Hugging Face's tokenizers, alternately, one thread each.

The vocabularies are those of tokenizer/testdata, the texts the project's own. What it needs besides Go it installs by
name into .bin/tokenizers.
"""

import argparse
import glob
import gzip
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".bin" / "tokenizers"
DATA = ROOT / "tokenizer" / "testdata"


def texts(folder):
    english = "".join(pathlib.Path(p).read_text() for p in sorted(glob.glob(str(ROOT / "docs/**/*.md"), recursive=True)))
    code = "".join(pathlib.Path(p).read_text() for p in sorted(glob.glob(str(ROOT / "*/**/*.go"), recursive=True)))
    for name, text in ("english", english), ("code", code):
        text = (text * (1 + (1 << 20) // len(text)))[:1 << 20]
        (folder / f"{name}.txt").write_text(text)
        yield name, text


def huggingface(vocabulary):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    with gzip.open(DATA / f"{vocabulary}.vocab.json.gz", "rt") as f:
        v = json.load(f)
    if vocabulary == "llama-spm":
        ids = {text: i for i, text in enumerate(v["tokens"])}
        merges = []
        for text, i in ids.items():  # every way to make a token of two others, by the score of what it makes
            merges += [(-v["scores"][i], i, text[:n], text[n:]) for n in range(1, len(text)) if text[:n] in ids and text[n:] in ids]
        merges = [(left, right) for _, _, left, right in sorted(merges)]
        t = Tokenizer(models.BPE(ids, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        return t
    made = v["tokens"][v["first"]:]
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(v["tokens"])}, [(s[:n], s[n:]) for s, n in zip(made, v["lefts"])]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return t


def dunlin(binary, folder, vocabulary, name):
    out = subprocess.run([binary, "-test.run=^$", f"-test.bench=^BenchmarkTexts/{vocabulary}/{name}$", "-test.benchtime=5x"],
                         cwd=ROOT / "tokenizer", env=os.environ | {"DUNLIN_BENCH_TEXTS": str(folder), "GOMAXPROCS": "1"},
                         check=True, capture_output=True, text=True).stdout
    return float(re.search(r"([\d.]+) MB/s", out)[1]), int(float(re.search(r"([\d.e+]+) tokens", out)[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if not (VENV / "bin" / "tokenizers-ready").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "-q", "tokenizers", "gguf", "numpy"], check=True)
        (VENV / "bin" / "tokenizers-ready").symlink_to("python")
    if pathlib.Path(sys.prefix) != VENV:
        os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.argv])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        binary = str(folder / "tokenizer.test")
        subprocess.run(["go", "test", "-c", "-o", binary, "./tokenizer"], cwd=ROOT, check=True)
        print("| vocabulary | text | tokens | dunlin, MB/s | Hugging Face, MB/s | ratio |\n|---|---|---:|---:|---:|---:|")
        for name, text in texts(folder):
            size = len(text.encode())
            for vocabulary in "smollm", "llama-spm":
                reference = huggingface(vocabulary)
                ours, theirs = [], []
                for _ in range(args.rounds):
                    rate, tokens = dunlin(binary, folder, vocabulary, name)
                    start = time.perf_counter()
                    ids = reference.encode(text).ids
                    theirs.append(size / 1e6 / (time.perf_counter() - start))
                    ours.append(rate)
                assert len(ids) == tokens, f"{vocabulary}, {name}: {len(ids)} tokens there, {tokens} here"
                ratios = sorted(a / b for a, b in zip(ours, theirs))
                print(f"| {vocabulary} | {name} | {tokens} | {statistics.median(ours):.1f} | {statistics.median(theirs):.2f} | "
                      f"**{statistics.median(ratios):.1f}** ({ratios[0]:.1f} to {ratios[-1]:.1f}) |")


if __name__ == "__main__":
    main()
