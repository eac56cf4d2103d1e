"""Writes a vocabulary and cases with the ids that Hugging Face's tokenizers give.

Needs the packages gguf and tokenizers.

  golden.py vocab FILE.gguf OUT.vocab.json.gz
  golden.py cases FILE.gguf PRE OUT.cases.json TEXTS.json     a list of texts
  golden.py fuzz  FILE.gguf PRE OUT.cases.json COUNT SEED     random texts

README.md says what the files hold; PRE is a name of tokenizer.ggml.pre.
"""

import gzip
import json
import random
import re
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers


def field(reader, name):
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


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def tokenizer(path, pre, special):
    r = GGUFReader(path)
    tokens, types = field(r, "tokens"), field(r, "token_type")
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, [tuple(m.split(" ")) for m in field(r, "merges")],
                             ignore_merges=pre == "llama-bpe"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre != "llama-bpe")
    t.pre_tokenizer = {
        "gpt-2": byte_level,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
        "llama-bpe": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), byte_level]),
    }[pre]
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
    with open(out, "w", encoding="utf-8") as f:
        f.write('{"pre":' + json.dumps(pre) + ',"cases":[\n')
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        f.write("\n]}\n")


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


def random_texts(path, count, seed):
    r, rng = GGUFReader(path), random.Random(seed)
    control = [s for s, k in zip(field(r, "tokens"), field(r, "token_type")) if k == 3]
    snippets = ["'s", "'S", "'ll", "'\u017f", "'re", " the", " a", "ing", "Hello", " world", "\n\n", "   ", "\r\n", "...", "!?",
                "\u0301", "\u200d", "\U0001f469\u200d\U0001f680", "\U0001f600", "\u4f60\u597d", "\ud55c\uad6d", " \u0438", "e\u0301", "<|", "|>"]
    return [random_text(rng, snippets + rng.sample(control, 1)) for _ in range(count)]


def main(command, path, *args):
    if command == "vocab":
        write_vocab(path, *args)
    elif command == "cases":
        pre, out, texts = args
        with open(texts, encoding="utf-8") as f:
            write_cases(path, pre, out, json.load(f))
    elif command == "fuzz":
        pre, out, count, seed = args
        write_cases(path, pre, out, random_texts(path, int(count), int(seed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
