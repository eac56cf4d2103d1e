"""Writes torch_values.json, what torch and transformers compute, for TestTorchValues.

Run with torch and transformers installed: python3 torch_values.py. Inputs aren't
written: both sides make them with the generator `values`.
"""

import json
import os

import torch
import transformers
from torch.nn import functional
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

HEAD = 32


def values(seed, *shape, scale=1.0):
    """Multiples of 2^-15 in [-scale, scale), from a linear congruential generator."""
    n = torch.Size(shape).numel()
    out, u = [], seed
    for _ in range(n):
        u = (u * 1664525 + 1013904223) % 2**32
        out.append(((u >> 16) / 32768 - 1) * scale)
    return torch.tensor(out, dtype=torch.float32).reshape(shape)


def flat(x):
    return [float(f"{v:.9g}") for v in x.detach().flatten().tolist()]


def rope(parameters, base, positions, seed):
    """Heads rotated by transformers' Llama, which has the halves layout."""
    config = LlamaConfig(
        hidden_size=2 * HEAD, num_attention_heads=2, head_dim=HEAD, max_position_embeddings=8192,
        rope_parameters={"rope_theta": base, **parameters},
    )
    module = LlamaRotaryEmbedding(config)
    heads = values(seed, len(positions), 2, HEAD)
    cos, sin = module(heads, torch.tensor([positions]))
    rotated, _ = apply_rotary_pos_emb(heads[None].transpose(1, 2), heads[None].transpose(1, 2), cos, sin)
    return {"frequencies": flat(module.inv_freq), "magnitude": module.attention_scaling, "rotated": flat(rotated.transpose(1, 2))}


def neox(parallel):
    """A layer of GPT-NeoX: layer norms and products with biases, a part of each head rotated."""
    hidden, tokens = 2 * HEAD, 5
    config = GPTNeoXConfig(
        hidden_size=hidden, num_attention_heads=2, intermediate_size=2 * hidden, hidden_act="gelu", layer_norm_eps=1e-5,
        use_parallel_residual=parallel, hidden_dropout=0.0, attention_dropout=0.0, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    )
    layer = GPTNeoXLayer(config, 0).eval()
    qkv = [values(20 + i, 2, HEAD, hidden, scale=0.25) for i in range(3)]
    bias = [values(30 + i, 2, HEAD, scale=0.25) for i in range(3)]
    with torch.no_grad():
        layer.attention.query_key_value.weight.copy_(torch.stack(qkv, 1).reshape(3 * hidden, hidden))
        layer.attention.query_key_value.bias.copy_(torch.stack(bias, 1).reshape(3 * hidden))
        layer.attention.dense.weight.copy_(values(40, hidden, hidden, scale=0.25))
        layer.attention.dense.bias.copy_(values(41, hidden, scale=0.25))
        layer.mlp.dense_h_to_4h.weight.copy_(values(42, 2 * hidden, hidden, scale=0.25))
        layer.mlp.dense_h_to_4h.bias.copy_(values(43, 2 * hidden, scale=0.25))
        layer.mlp.dense_4h_to_h.weight.copy_(values(44, hidden, 2 * hidden, scale=0.25))
        layer.mlp.dense_4h_to_h.bias.copy_(values(45, hidden, scale=0.25))
        for i, norm in enumerate((layer.input_layernorm, layer.post_attention_layernorm)):
            norm.weight.copy_(values(46 + 2 * i, hidden))
            norm.bias.copy_(values(47 + 2 * i, hidden))
        x = values(50, 1, tokens, hidden, scale=4.0)
        dims = HEAD // 4
        angles = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(0, dims, 2) / dims)[None]
        angles = torch.cat((angles, angles), -1)[None]
        mask = torch.full((tokens, tokens), float("-inf")).triu(1)[None, None]
        out = layer(x, attention_mask=mask, position_embeddings=(angles.cos(), angles.sin()))
    return flat(out)


def main():
    x = values(1, 3, 64, scale=8.0)
    positions = [0, 1, 7, 300, 5000]
    out = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "layer_norm": flat(functional.layer_norm(x + 100, (64,), values(2, 64), values(3, 64), 1e-5)),
        "layer_norm_no_bias": flat(functional.layer_norm(x, (64,), values(2, 64), None, 1e-5)),
        "gelu_erf": flat(functional.gelu(x)),
        "gelu_tanh": flat(functional.gelu(x, approximate="tanh")),
        "geglu_tanh": flat(functional.gelu(x, approximate="tanh") * values(4, 3, 64)),
        "soft_cap": flat(torch.tanh(x / 5.0) * 5.0),
        "linear_bias": flat(functional.linear(x, values(5, 48, 64, scale=0.25), values(6, 48))),
        "positions": positions,
        "rope": rope({"rope_type": "default"}, 10000.0, positions, 7),
        "rope_linear": rope({"rope_type": "linear", "factor": 8.0}, 10000.0, positions, 7),
        "rope_yarn": rope({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}, 10000.0, positions, 7),
        "rope_yarn_own": rope(
            {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096, "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 0.9},
            500000.0, positions, 7,
        ),
        "rope_llama3": rope(
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 2048},
            500000.0, positions, 7,
        ),
        "neox_parallel": neox(True),
        "neox_sequential": neox(False),
    }
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_values.json"), "w") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")


main()
