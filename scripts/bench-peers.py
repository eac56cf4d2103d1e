#!/usr/bin/env python3
"""Compares dunlin with llama.cpp and OpenVINO GenAI on this machine and writes
docs/benchmarks.md. Called by `make bench-peers`, which builds dunlin first.

Each round runs every engine once, one after the other, so that whatever the
machine does meanwhile meets all of them; ratios are taken within a round."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DUNLIN = ROOT / "bin" / "dunlin"
TYPES = ["Q4_0", "Q8_0", "F16"]  # made from the default model, which is Q4_1
STREAMS = [8, 16, 32]
STREAM_TOKENS = 64
REPEAT = 3  # measurements of a process, of which it tells the median or the mean

# (figure, dunlin's file, peer, its file, ratio aimed at with VNNI and without AMX)
PAIRS = [
    ("pp512", "Q4_1", "llama.cpp", "Q4_1", 4.5),
    ("pp512", "Q8_0", "llama.cpp", "Q8_0", 2.5),
    ("pp512", "F16", "llama.cpp", "F16", 1.1),
    ("pp512", "Q4_1", "llama.cpp", "Q4_0", 1.9),
    ("pp512", "Q8_0", "OpenVINO GenAI", "Q8_0", 1.3),
    ("tg128", "Q4_1", "llama.cpp", "Q4_1", 2.0),
    ("tg128", "Q8_0", "llama.cpp", "Q8_0", 1.15),
    ("tg128", "F16", "llama.cpp", "F16", 1.0),
    ("tg128", "Q4_1", "llama.cpp", "Q4_0", 1.4),
    ("tg128", "Q8_0", "OpenVINO GenAI", "Q8_0", None),
    ("pp512", "Q4_1 avx2", "llama.cpp avx2", "Q4_1", 2.0),
    ("tg128", "Q4_1 avx2", "llama.cpp avx2", "Q4_1", 1.3),
] + [(f"tg{STREAM_TOKENS}@{n}", "Q4_1", "llama.cpp", f, None) for n in STREAMS for f in ("Q4_1", "Q4_0")]


def run(cmd, **env):
    res = subprocess.run([str(c) for c in cmd], env={**os.environ, **env}, capture_output=True, text=True)
    if res.returncode:
        sys.exit(f"{' '.join(map(str, cmd))}: exit code {res.returncode}\n{res.stderr[-2000:]}")
    return res.stdout


def cpu_flags():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), []))


class Bench:
    def __init__(self, args):
        self.args = args
        self.cache = pathlib.Path(args.cache)
        self.llama = pathlib.Path(run([ROOT / "scripts/build-llama.sh", self.cache]).strip())
        self.wide = "avx512_vnni" in cpu_flags()
        self.amx = "amx_int8" in cpu_flags()
        self.llama2 = pathlib.Path(run([ROOT / "scripts/build-llama.sh", self.cache, "avx2"]).strip()) if self.wide else self.llama
        self.openvino = self.install_openvino()
        self.files = self.make_files()
        self.machine = None  # dunlin's own report of it
        self.versions = {}

    def install_openvino(self):
        if self.args.no_openvino:
            return None
        python = self.cache / "openvino/bin/python"
        if not python.exists():
            run([sys.executable, "-m", "venv", self.cache / "openvino"])
        if subprocess.run([python, "-c", "import openvino_genai"], capture_output=True).returncode:
            run([python, "-m", "pip", "install", "-q", "openvino-genai"])
        return python

    def make_files(self):
        model = pathlib.Path(self.args.model or run([DUNLIN, "pull", "smollm2"]).strip())
        files = {"Q4_1": model}
        out = self.cache / "models"
        out.mkdir(parents=True, exist_ok=True)
        for t in TYPES:
            files[t] = out / f"{model.stem}.{t}.gguf"
            if not files[t].exists():
                part = files[t].with_suffix(".part")
                run([self.llama / "llama-quantize", "--allow-requantize", model, part, t, self.args.threads])
                part.rename(files[t])
        return files

    def dunlin(self, file, isa="", streams=False):
        env = {"DUNLIN_CPU": isa} if isa else {}
        cmd = [DUNLIN, "bench", self.files[file], "-t", self.args.threads, "-r", REPEAT, "-o", "json"]
        cmd += ["-p", 0, "-n", STREAM_TOKENS, "-b", ",".join(map(str, STREAMS))] if streams else ["-p", 512, "-n", 128]
        report = json.loads(run(cmd, **env))
        if not isa:
            self.machine = report["machine"] | {"limits": report["limits"][0]}
        out = {}
        for r in report["results"]:
            out[r["test"] + (f"@{r['streams']}" if streams else "")] = r["tokens_per_second"]
        return out

    def llama_bench(self, bin, file):
        out = {}
        cmd = [bin / "llama-bench", "-m", self.files[file], "-p", 512, "-n", 128, "-t", self.args.threads, "-r", REPEAT, "-o", "json"]
        for r in json.loads(run(cmd)):
            out["pp512" if r["n_prompt"] else "tg128"] = r["avg_ts"]
            self.versions["llama.cpp"] = r["build_commit"]
        return out

    def llama_streams(self, file):
        cmd = [self.llama / "llama-batched-bench", "-m", self.files[file], "-c", 8192, "-npp", 1, "-ntg", STREAM_TOKENS,
               "-npl", ",".join(map(str, STREAMS)), "-t", self.args.threads, "-tb", self.args.threads, "--output-format", "jsonl"]
        out = {}
        for line in run(cmd).splitlines():
            if line.startswith("{"):
                r = json.loads(line)
                out[f"tg{STREAM_TOKENS}@{r['pl']}"] = r["speed_tg"]
        return out

    def openvino_bench(self, file):
        r = json.loads(run([self.openvino, ROOT / "scripts/bench-openvino.py", self.files[file], "-t", self.args.threads, "-r", REPEAT]))
        self.versions["OpenVINO GenAI"] = r["version"]
        return {"pp512": r["pp"], "tg128": r["tg"]}

    def round(self):
        """One run of everything: {(engine, file): {figure: tokens per second}}."""
        jobs = [(("dunlin", f), lambda f=f: self.dunlin(f)) for f in ("Q4_1", "Q8_0", "F16")]
        jobs += [(("llama.cpp", f), lambda f=f: self.llama_bench(self.llama, f)) for f in ("Q4_1", "Q4_0", "Q8_0", "F16")]
        if self.wide:
            jobs.append((("dunlin", "Q4_1 avx2"), lambda: self.dunlin("Q4_1", "avx2")))
            jobs.append((("llama.cpp avx2", "Q4_1"), lambda: self.llama_bench(self.llama2, "Q4_1")))
        if self.openvino:
            jobs.append((("OpenVINO GenAI", "Q8_0"), lambda: self.openvino_bench("Q8_0")))
        order = {"Q4_1": 0, "Q4_0": 0, "Q4_1 avx2": 1, "Q8_0": 2, "F16": 3}
        jobs.sort(key=lambda j: order[j[0][1]])  # engines on one type side by side
        out = {key: job() for key, job in jobs}
        if not self.args.quick:
            out["dunlin", "Q4_1"] |= self.dunlin("Q4_1", streams=True)
            for f in ("Q4_1", "Q4_0"):
                out["llama.cpp", f] |= self.llama_streams(f)
        return out


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(bench, rounds):
    yield "| figure | dunlin | tok/s | peer | tok/s | ratio | aimed at |"
    yield "|---|---|---:|---|---:|---:|---:|"
    for figure, ours, peer, theirs, aim in PAIRS:
        pairs = [(r["dunlin", ours][figure], r[peer, theirs][figure]) for r in rounds
                 if figure in r.get(("dunlin", ours), {}) and figure in r.get((peer, theirs), {})]
        if not pairs:
            continue
        ratios = [a / b for a, b in pairs]
        if aim and bench.amx and peer.startswith("llama") and "avx2" not in peer:
            aim /= 2
        met = "" if not aim else f"{aim:.2f}, {'met' if statistics.median(ratios) >= aim else 'missed'}"
        yield (f"| {figure} | {ours} | {spread([a for a, _ in pairs], 0)} | {peer}, {theirs} | "
               f"{spread([b for _, b in pairs], 0)} | **{spread(ratios, 2)}** | {met} |")


def document(bench, rounds):
    m, lim = bench.machine, bench.machine["limits"]
    yield "# dunlin beside its peers"
    yield ""
    yield "Written by `make bench-peers`. Only the ratios mean something elsewhere: the rates are this machine's on that day."
    yield ""
    yield f"- {datetime.date.today()}, {m['cpu']}, {m['processors']} processors, {bench.args.threads} threads, {platform.system()}, kernels `{m['kernels']}`"
    yield (f"- limits by dunlin's probe: int8 {lim['int8_gop_per_second']:.0f} GOP/s ({lim['int8_instruction']}), float32 "
           f"{lim['float32_gop_per_second']:.0f} GOP/s, plain read {lim['read_gb_per_second']:.1f} GB/s")
    yield f"- {run([DUNLIN, 'version']).strip()}; " + "; ".join(f"{k} {v}" for k, v in sorted(bench.versions.items()))
    yield "- model: SmolLM2-135M-Instruct in Q4_1; the other types were made from it by llama.cpp's `llama-quantize --allow-requantize`"
    yield ""
    yield f"Medians of {len(rounds)} rounds, with the least and the most. In each round all engines ran once, alternately, {REPEAT} measurements each; a ratio is of one round."
    yield ""
    yield from table(bench, rounds)
    yield ""
    yield "`pp512` is the prefill of a prompt of 512 tokens, `tg128` are 128 tokens decoded from an empty context, `tg64@8` 64 tokens by"
    yield "8 requests at once (the rate of all together). dunlin is timed around `runtime.Generate`, so its rates have the queue, sampling"
    yield "and detokenising in them; OpenVINO GenAI is timed around `LLMPipeline.generate`; `llama-bench` and `llama-batched-bench` time"
    yield "the computation alone. Each process warms up once before what counts. What is aimed at was set for machines with AVX-512 VNNI"
    yield "(rows with `avx2`: for those without it)."
    if not bench.wide:
        yield ""
        yield "This machine has no AVX-512: all rows are AVX2 against AVX2, and for Q4_1 against Q4_1 the aims are 2.0 (prefill) and 1.3 (decode)."
    yield ""
    yield "To repeat: `make bench-peers` (needs cmake, a C++ compiler and python3; builds llama.cpp once). `scripts/bench-peers.py --help` has"
    yield "the rest."


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--model", help="path of the default model (default: fetched)")
    p.add_argument("--cache", default=pathlib.Path.home() / ".cache/dunlin-peers")
    p.add_argument("--quick", action="store_true", help="without many streams")
    p.add_argument("--no-openvino", action="store_true")
    p.add_argument("--out", default=ROOT / "docs/benchmarks.md")
    args = p.parse_args()
    bench = Bench(args)
    rounds = []
    for i in range(args.rounds):
        rounds.append(bench.round())
        print(f"round {i + 1} of {args.rounds}", file=sys.stderr)
    text = "\n".join(document(bench, rounds)) + "\n"
    pathlib.Path(args.out).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
