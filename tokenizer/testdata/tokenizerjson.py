"""Trains small tokenizers and writes their tokenizer.json with texts and ids.

Needs the package tokenizers.

  tokenizerjson.py FOLDER TRAINING.txt COUNT SEED

For each kind it writes NAME.tokenizer.json.gz and NAME.ids.json.
"""

import gzip
import json
import pathlib
import random
import sys

from golden import LLAMA3, random_text
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["<unk>", "<s>", "</s>"]
SNIPPETS = ["'s", "the ", " license", "Software", "\n\n", "   ", "\t", "e\u0301", "\u00e9", "\u4f60\u597d", "\U0001f600", "<s>", "</s>", "program", "2024", "\ufb01"]


def byte_level(pre, normalizer=None, whole=False):
    t = Tokenizer(models.BPE(ignore_merges=whole))
    t.pre_tokenizer = pre_tokenizers.Sequence(pre) if isinstance(pre, list) else pre
    if normalizer:
        t.normalizer = normalizer
    t.decoder = decoders.ByteLevel()
    return t, trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def bpe_spaces(prefix):
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    spaces = normalizers.Replace(" ", "\u2581")
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces]) if prefix else spaces
    if not prefix:
        t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return t, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL + [f"<0x{i:02X}>" for i in range(256)])


def word_piece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return t, trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]", "[CLS]", "[SEP]"])


def unigram():
    t = Tokenizer(models.Unigram())
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    return t, trainers.UnigramTrainer(vocab_size=500, special_tokens=SPECIAL, unk_token="<unk>")


level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
KINDS = {
    "gpt2": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "llama3": lambda: byte_level([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), level], whole=True),
    "qwen2": lambda: byte_level([pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"), level], normalizers.NFC()),
    "removed": lambda: byte_level([pre_tokenizers.Split(Regex(LLAMA3), "removed", invert=True), level]),
    "starcoder": lambda: byte_level([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "falcon": lambda: byte_level([pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
                                       pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")]),
    "llama2": lambda: bpe_spaces(True),
    "gemma": lambda: bpe_spaces(False),
    "bert": word_piece,
    "unigram": unigram,
}


def main(folder, training, count, seed):
    folder = pathlib.Path(folder)
    for name, kind in KINDS.items():
        tokenizer, trainer = kind()
        tokenizer.train([training], trainer)
        file = json.loads(tokenizer.to_str())
        # Only training needs the tokens of bytes to be special.
        file["added_tokens"] = [t for t in file["added_tokens"] if not t["content"].startswith("<0x")]
        tokenizer = Tokenizer.from_str(json.dumps(file))
        if name == "bert":
            ends = [("[CLS]", 1), ("[SEP]", 2)]
            tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends)
        elif name in ("llama2", "llama3"):
            tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("[box]", normalized=False)])
        with open(folder / f"{name}.tokenizer.json.gz", "wb") as f:
            f.write(gzip.compress(tokenizer.to_str().encode(), 9, mtime=0))
        rng = random.Random(int(seed))
        cases = []
        for _ in range(int(count)):
            text = random_text(rng, SNIPPETS + ["<tool>", "[box]"])
            cases.append({"text": text, "special": True, "ids": tokenizer.encode(text, add_special_tokens=False).ids})
            cases.append({"text": text, "special": True, "ends": True, "ids": tokenizer.encode(text).ids})
        with open(folder / f"{name}.ids.json", "w", encoding="utf-8") as f:
            f.write('{"cases":[\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
