"""Writes a vocabulary and cases with the ids that Hugging Face's tokenizers give.

Needs the packages gguf and tokenizers.

  golden.py vocab FILE.gguf OUT.vocab.json.gz
  golden.py cases FILE PRE OUT.cases.json TEXTS.json      a list of texts
  golden.py llamacpp FILE.gguf OUT.cases.json         the texts and ids beside llama.cpp's vocabularies
  golden.py fuzz  FILE PRE OUT.cases.json COUNT SEED      random texts
  golden.py pieces OUT.pieces.json COUNT SEED [NAME...]       how all rules, or those, cut random texts

FILE is a GGUF file or a vocabulary that was written. README.md says what the files hold; PRE is a name of tokenizer.ggml.pre.
"""

import gzip
import json
import pathlib
import random
import re
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers


def load(path):
    """A GGUF file, or a vocabulary that write_vocab has written."""
    if not path.endswith(".vocab.json.gz"):
        return GGUFReader(path)
    with gzip.open(path, "rt", encoding="utf-8") as f:
        vocab = json.load(f)
    made = vocab["tokens"][vocab["first"]:]
    return {
        "tokens": vocab["tokens"], "token_type": [vocab["types"].get(str(i), 1) for i in range(len(vocab["tokens"]))],
        "merges": [f"{token[:n]} {token[n:]}" for token, n in zip(made, vocab["lefts"])],
    }


def field(reader, name):
    if isinstance(reader, dict):
        return reader[name]
    f = reader.fields.get("tokenizer.ggml." + name)
    return None if f is None else f.contents()


def write_vocab(path, out):
    r = GGUFReader(path)
    tokens, merges = field(r, "tokens"), field(r, "merges")
    first = tokens.index(merges[0].replace(" ", ""))
    lefts = []
    for merge, token in zip(merges, tokens[first:]):
        left, right = merge.split(" ")
        assert left + right == token, "merges aren't in the order of the tokens"
        lefts.append(len(left))
    vocab = {
        "model": field(r, "model"), "pre": field(r, "pre"), "tokens": tokens, "lefts": lefts,
        "types": {i: t for i, t in enumerate(field(r, "token_type")) if t != 1},
        "bos": field(r, "bos_token_id"), "eos": field(r, "eos_token_id"),
        "first": first,
    }
    text = json.dumps(vocab, ensure_ascii=False, separators=(",", ":"))
    with open(out, "wb") as f:
        f.write(gzip.compress(text.encode(), 9, mtime=0))


with open(pathlib.Path(__file__).parent.parent / "pretokenizers.json", encoding="utf-8") as rules:
    RULES = {name: rule for rule in json.load(rules) for name in rule["names"]}


LLAMA3 = RULES["llama-bpe"]["split"][0]


def pre_tokenizer(pre):
    """The models' own pre-tokenizers, most of which are patterns."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    if pre == "gpt-2":
        return byte_level
    if pre == "smollm":
        return pre_tokenizers.Sequence([digits, byte_level])
    if pre == "falcon":
        return pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), byte_level,
                                        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])
    patterns = RULES[pre]["split"]
    if patterns[:2] == [r"\d+\b", "threes"]:
        patterns = [r"\d{1,3}(?=(?:\d{3})*\b)", *patterns[2:]]
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
                                   + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def tokenizer(path, pre, special):
    r = load(path)
    tokens, types = field(r, "tokens"), field(r, "token_type")
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, [tuple(m.split(" ")) for m in field(r, "merges")],
                             ignore_merges=RULES[pre].get("whole", False)))
    t.pre_tokenizer = pre_tokenizer(pre)
    if RULES[pre].get("nfc"):
        t.normalizer = normalizers.NFC()
    t.add_tokens([AddedToken(tokens[i], normalized=False) for i, k in enumerate(types) if k == 4])
    if special:
        t.add_special_tokens([AddedToken(tokens[i], special=True, normalized=False) for i, k in enumerate(types) if k == 3])
    return t


def write_cases(path, pre, out, texts):
    cases = []
    plain, special = tokenizer(path, pre, False), tokenizer(path, pre, True)
    for text in texts:
        cases.append({"text": text, "ids": plain.encode(text).ids})
        ids = special.encode(text).ids
        if ids != cases[-1]["ids"]:
            cases.append({"text": text, "special": True, "ids": ids})
    write(out, pre, cases)


def write(out, pre, cases):
    with open(out, "w", encoding="utf-8") as f:
        f.write('{"pre":' + json.dumps(pre) + ',"cases":[\n')
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        f.write("\n]}\n")


def write_llamacpp(path, out):
    with open(path + ".inp", encoding="utf-8", newline="") as f:
        texts = f.read().split("\n__ggml_vocab_test__\n")
    with open(path + ".out", encoding="utf-8") as f:
        ids = [[int(i) for i in line.split()] for line in f.read().split("\n")]
    write(out, field(GGUFReader(path), "pre"), [{"text": t, "ids": i} for t, i in zip(texts, ids)])


def random_text(rng, snippets):
    def character():
        kind = rng.randrange(8)
        if kind == 0:
            return chr(rng.randrange(0x20, 0x7f))
        if kind == 1:
            return rng.choice(" \t\n\r\v\f\u00a0\u0085\u2003\u2028\u3000\u200b\u180e\ufeff")
        if kind == 2:
            return chr(rng.randrange(0x80, 0x800))
        if kind == 3:
            return chr(rng.randrange(0x800, 0xd800))
        if kind == 4:
            return chr(rng.randrange(0xe000, 0x20000))
        if kind == 5:
            return rng.choice("0123456789\u00b2\u00bd\u0665\u2167\uff11\u4e00\u3007")
        return rng.choice(snippets)
    text = "".join(character() for _ in range(rng.randrange(1, 40)))
    # The splitter Digits knows Unicode 17.0's numbers, the regular expressions 16.0's.
    text = re.sub("[\U00011de0-\U00011de9\U00016ff4-\U00016ff6]", "", text)
    return text.replace(" ", "  ") if rng.random() < 0.2 else text


def control_tokens(path):
    r = load(path)
    return [s for s, k in zip(field(r, "tokens"), field(r, "token_type")) if k == 3]


def random_texts(control, count, seed):
    rng = random.Random(seed)
    snippets = ["'s", "'S", "'ll", "'\u017f", "'re", " the", " a", "ing", "Hello", " world", "\n\n", "   ", "\r\n", "...", "!?",
                "\u0301", "\u200d", "\U0001f469\u200d\U0001f680", "\U0001f600", "\u4f60\u597d", "\ud55c\uad6d", " \u0438", "e\u0301", "<|", "|>"]
    snippets += ["12345", "1234abc", "HeLLo", "WORLD", "x=y", "don't", "a/b\r\n", " \n \n", "\u3042\u30a2", "\u0e01\u0e33", "\u0939\u093f"]
    return [random_text(rng, snippets + rng.sample(control, 1)) for _ in range(count)]


def write_pieces(out, count, seed, *names):
    texts = random_texts(["<|im_end|>"], int(count), int(seed))
    rules = {}
    for name in names or [rule["names"][0] for rule in {id(r): r for r in RULES.values()}.values()]:
        pre = pre_tokenizer(name)
        # The pieces are spelled in the byte-level alphabet, a character a byte.
        rules[name] = [[len(piece) for piece, _ in pre.pre_tokenize_str(text)] for text in texts]
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"texts": texts, "lengths": rules}, f, separators=(",", ":"))


def main(command, path, *args):
    if command == "pieces":
        write_pieces(path, *args)
    elif command == "vocab":
        write_vocab(path, *args)
    elif command == "cases":
        pre, out, texts = args
        with open(texts, encoding="utf-8") as f:
            write_cases(path, pre, out, json.load(f))
    elif command == "llamacpp":
        write_llamacpp(path, *args)
    elif command == "fuzz":
        pre, out, count, seed = args
        write_cases(path, pre, out, random_texts(control_tokens(path), int(count), int(seed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
