"""Writes vocabularies of SentencePiece and WordPiece, and cases with the ids that the references give.

Needs the packages gguf, tokenizers and sentencepiece (with protobuf).

  pieces.py vocab FILE.gguf|FILE.model OUT.vocab.json.gz
  pieces.py train TEXT.txt OUT.model SIZE [OPTION=VALUE...]   a unigram model; options of SentencePieceTrainer
  pieces.py llamacpp FILE.gguf OUT.cases.json                 llama.cpp's own cases, beside FILE.gguf
  pieces.py cases FILE OUT.cases.json TEXTS.json              a list of texts
  pieces.py fuzz  FILE OUT.cases.json COUNT SEED              random texts
  pieces.py unicode OUT.json.gz                               what BertNormalizer and BertPreTokenizer do to each character

The references: for a .model SentencePiece; for a .gguf of the model "bert" Hugging Face's tokenizers; for one of the
model "llama" both, and a text that they take differently is left out and counted. Ids of SentencePiece's unigram are
left out where its float32 sums, not the scores, chose between two ways; they are counted too.
"""

import gzip
import json
import os
import random
import sys
import zlib

from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb

from golden import random_text

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def read(path):
    """The vocabulary as README.md describes it."""
    if path.endswith(".model"):
        return read_model(path)
    r = GGUFReader(path)
    field = lambda name: (f := r.fields.get("tokenizer.ggml." + name)) and f.contents()
    v = {"model": field("model"), "tokens": field("tokens"), "types": field("token_type"), "scores": field("scores"),
         "add_space_prefix": field("add_space_prefix"), "remove_extra_whitespaces": field("remove_extra_whitespaces")}
    if (charsmap := field("precompiled_charsmap")) is not None:
        v["charsmap"] = bytes(c & 255 for c in charsmap)
    for name in "bos", "eos", "unknown", "cls", "padding", "mask":
        v[name] = field(name + "_token_id")
    v["sep"] = field("seperator_token_id")
    if v["unknown"] is None and UNKNOWN in v["types"]:
        v["unknown"] = v["types"].index(UNKNOWN)
    return v


def read_model(path):
    m = pb.ModelProto()
    with open(path, "rb") as f:
        m.ParseFromString(f.read())
    kind = {1: "t5", 2: "llama"}[m.trainer_spec.model_type]
    none = lambda i: i if i >= 0 else None
    return {
        "model": kind, "tokens": [p.piece for p in m.pieces], "types": [p.type for p in m.pieces],
        "scores": [p.score for p in m.pieces], "bos": none(m.trainer_spec.bos_id), "eos": none(m.trainer_spec.eos_id),
        "unknown": m.trainer_spec.unk_id, "add_space_prefix": m.normalizer_spec.add_dummy_prefix,
        "remove_extra_whitespaces": m.normalizer_spec.remove_extra_whitespaces,
        "charsmap": m.normalizer_spec.precompiled_charsmap or None,
    }


def write_vocab(path, out):
    v = read(path)
    v["types"] = {i: t for i, t in enumerate(v["types"]) if t != NORMAL}
    v = {k: x for k, x in v.items() if x is not None}
    if "charsmap" in v:
        name = "%08x.charsmap.gz" % zlib.crc32(v["charsmap"])
        with open(os.path.join(os.path.dirname(out), name), "wb") as f:
            f.write(gzip.compress(v["charsmap"], 9, mtime=0))
        v["charsmap"] = name
    text = json.dumps(v, ensure_ascii=False, separators=(",", ":"))
    with open(out, "wb") as f:
        f.write(gzip.compress(text.encode(), 9, mtime=0))


def bert(v):
    words = {}
    for i, (s, t) in enumerate(zip(v["tokens"], v["types"])):
        words[s if t != NORMAL or s[0] == "[" and s[-1] == "]" else s[1:] if s[0] == "\u2581" else "##" + s] = i
    t = Tokenizer(models.WordPiece(words, unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda text: t.encode(text).ids


def pairs(v):
    """BPE of Hugging Face's tokenizers, with the merges in the order of the scores as their converter makes them."""
    ids = {s: i for i, s in enumerate(v["tokens"])}
    merges = []
    for s, score, kind in zip(v["tokens"], v["scores"], v["types"]):
        if kind == NORMAL:
            halves = [(s[:i], s[i:]) for i in range(1, len(s)) if s[:i] in ids and s[i:] in ids]
            halves.sort(key=lambda h: (ids[h[0]], ids[h[1]]))
            merges += [(h, score) for h in halves]
    merges.sort(key=lambda m: (m[1], len(m[0][0]), len(m[0][1])), reverse=True)
    t = Tokenizer(models.BPE(ids, [m[0] for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return lambda text: t.encode(text).ids


def sentencepiece(v):
    """SentencePiece with the vocabulary of a GGUF file."""
    m = pb.ModelProto()
    for i, (s, score, kind) in enumerate(zip(v["tokens"], v["scores"], v["types"])):
        m.pieces.add(piece=s, score=score, type=CONTROL if kind == UNKNOWN and i != v["unknown"] else kind)
    t, n = m.trainer_spec, m.normalizer_spec
    t.model_type, t.byte_fallback = {"t5": 1, "llama": 2}[v["model"]], BYTE in v["types"]
    t.vocab_size, t.unk_id = len(v["tokens"]), v["unknown"]
    n.remove_extra_whitespaces = v["remove_extra_whitespaces"] is True
    n.add_dummy_prefix = v["add_space_prefix"] is not False
    n.precompiled_charsmap = v.get("charsmap") or b""
    p = spm.SentencePieceProcessor()
    p.LoadFromSerializedProto(m.SerializeToString())
    return p


def unigram(v, p):
    """SentencePiece, whose sums are float32, and Hugging Face's Viterbi, whose sums are exact, on its normalisation."""
    vocab = [(s if t in (NORMAL, USER_DEFINED) else "\0" * 9 + str(i), sc)
             for i, (s, t, sc) in enumerate(zip(v["tokens"], v["types"], v["scores"]))]
    t = Tokenizer(models.Unigram(vocab, unk_id=v["unknown"], byte_fallback=False))
    fallback = BYTE in v["types"]
    first = v["tokens"].index("<0x00>") if fallback else None

    def exact(text):
        norm = p.normalize(text)
        out = []
        for tok in t.encode(norm).tokens if norm else []:
            i = t.token_to_id(tok)
            if i is not None and i != v["unknown"]:
                out.append(i)
            elif fallback:
                out += [first + c for c in tok.encode()]
            elif not out or out[-1] != v["unknown"]:
                out.append(v["unknown"])
        return out
    return p.encode, exact


def references(path):
    v = read(path)
    if v["model"] == "bert":
        return [bert(v)]
    p = spm.SentencePieceProcessor(path) if path.endswith(".model") else sentencepiece(v)
    if v["model"] == "t5":
        return list(unigram(v, p))
    return [p.encode] if path.endswith(".model") else [p.encode, pairs(v)]


def write_cases(path, out, texts):
    refs = references(path)
    cases, differ = [], []
    for text in texts:
        ids = [r(text) for r in refs]
        if any(i != ids[0] for i in ids):
            differ.append((text, ids))
        else:
            cases.append({"text": text, "ids": ids[0]})
    write(out, cases)
    print(len(cases), "cases;", len(differ), "texts that the references take differently")
    for text, ids in differ[:5]:
        print(repr(text), ids)


def write(out, cases):
    with open(out, "w", encoding="utf-8") as f:
        f.write('{"cases":[\n')
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        f.write("\n]}\n")


def llamacpp(path, out):
    with open(path + ".inp", encoding="utf-8", newline="") as f:
        texts = f.read().split("\n__ggml_vocab_test__\n")
    with open(path + ".out", encoding="utf-8") as f:
        lines = f.read().split("\n")
    write(out, [{"text": t, "ids": [int(i) for i in line.split()]} for t, line in zip(texts, lines)])


def random_texts(path, count, seed):
    rng = random.Random(seed)
    v = read(path)
    tokens = [s.replace("\u2581", " ") for s, k in zip(v["tokens"], v["types"]) if k == NORMAL]
    snippets = ["'s", " the", "Hello", "\n\n", "   ", "\r\n", "...", "\u2581", "\u2581a", "\u0301", "\u200d", "\U0001f600",
                "\u4f60\u597d", "\ud55c\uad6d", "\u1112\u1161\u11ab", "e\u0301", "A\u030a\u0323", "\ufb01", "\ufdfa", "\uff21", "\u00e9", "\u0130", "aaaa", "\0"]
    return [random_text(rng, snippets + rng.choices(tokens, k=60)) for _ in range(count)]


def train(text, out, size, *options):
    spm.SentencePieceTrainer.train(input=text, model_prefix=out.removesuffix(".model"), vocab_size=int(size), minloglevel=2,
                                   num_threads=1, **dict(o.split("=") for o in options))


def write_unicode(out):
    bert = lambda **on: normalizers.BertNormalizer(**{k: k in on for k in (
        "clean_text", "handle_chinese_chars", "strip_accents", "lowercase")}).normalize_str
    clean, chinese, strip, lower = bert(clean_text=1), bert(handle_chinese_chars=1), bert(strip_accents=1), bert(lowercase=1)
    words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    ranges = {name: [] for name in ("removed", "space", "ideograph", "punctuation", "blank")}
    maps = {"strip": {}, "lower": {}}

    def add(name, c):
        r = ranges[name]
        if r and r[-1][1] == c - 1:
            r[-1][1] = c
        else:
            r.append([c, c])

    for c in range(0x110000):
        if 0xd800 <= c < 0xe000:
            continue
        s = chr(c)
        cleaned = clean("x" + s + "y")
        if cleaned in ("xy", "x y"):
            add({"xy": "removed", "x y": "space"}[cleaned], c)
            continue
        if chinese(s) != s:
            add("ideograph", c)
        if (n := len(words("x" + s + "y"))) > 1:
            add({3: "punctuation", 2: "blank"}[n], c)
        for name, f in ("strip", strip), ("lower", lower):
            if f(s) != s and not 0xac00 <= c < 0xd7a4:
                maps[name][s] = f(s)
    with open(out, "wb") as f:
        text = json.dumps({**ranges, **maps}, ensure_ascii=False, separators=(",", ":"))
        f.write(gzip.compress(text.encode(), 9, mtime=0))


def main(command, path, *args):
    if command == "vocab":
        write_vocab(path, *args)
    elif command == "train":
        train(path, *args)
    elif command == "unicode":
        write_unicode(path)
    elif command == "llamacpp":
        llamacpp(path, *args)
    elif command == "cases":
        out, texts = args
        with open(texts, encoding="utf-8") as f:
            write_cases(path, out, json.load(f))
    elif command == "fuzz":
        out, count, seed = args
        write_cases(path, out, random_texts(path, int(count), int(seed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
