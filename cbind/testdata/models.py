"""Makes the models of the bridge's tests.

models.py tiny DIR        a Llama of random weights with a byte-level vocabulary
models.py convert GGUF DIR  the Hugging Face directory of a GGUF file, in float32
models.py f16 GGUF DIR      model.gguf, the same file with its matrices in F16

A directory that is there already is left alone.
"""

import functools
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tiny(out):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|none|>", "<|start|>", "<|end|>"]
    vocab = {t: i for i, t in enumerate(special + alphabet)}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "a"), ("Ġ", "the"), ("e", "r"), ("i", "n")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|end|>", unk_token="<|none|>")
    fast.chat_template = TEMPLATE
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=len(vocab), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=2, bos_token_id=None, pad_token_id=None,
        initializer_range=0.3, tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(out)
    fast.save_pretrained(out)


def convert(path, out):
    import gguf

    # The reader and the map are made anew for each tensor otherwise.
    gguf.GGUFReader = functools.lru_cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = functools.lru_cache(gguf.get_tensor_name_map)
    where, name = os.path.split(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    transformers.AutoTokenizer.from_pretrained(where, gguf_file=name).save_pretrained(out)


def f16(path, out):
    import gguf
    import numpy

    reader = gguf.GGUFReader(path)
    os.makedirs(out, exist_ok=True)
    writer = gguf.GGUFWriter(os.path.join(out, "model.gguf"), reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)
    for t in reader.tensors:
        data = gguf.dequantize(t.data, t.tensor_type)
        writer.add_tensor(t.name, data.astype(numpy.float16 if data.ndim > 1 else numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    what, *args = sys.argv[1:]
    out = args[-1]
    if not os.path.exists(os.path.join(out, "done.json")):
        {"tiny": tiny, "convert": convert, "f16": f16}[what](*args)
        with open(os.path.join(out, "done.json"), "w") as f:
            json.dump({"torch": torch.__version__, "transformers": transformers.__version__}, f)
