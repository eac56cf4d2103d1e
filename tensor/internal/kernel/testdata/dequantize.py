"""Writes dequantize.json: blocks of random bytes and what gguf-py makes of them.

Needs the packages gguf and numpy.
"""

import json
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Where a block has its float16 scales.
SCALES = {"Q8_0": [0], "Q4_1": [0, 2], "Q4_0": [0], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "BF16": [],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

rng = np.random.default_rng(7)
out = {}
for name, scales in SCALES.items():
    length, size = GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, (96 if length == 1 else 6 if length == 32 else 3, size), dtype=np.uint8)
    if name == "MXFP4":
        blocks[:, 0] = [0, 1, 2, 127, 200, 254]
    for at in scales:
        blocks[:, at:at + 2] = (rng.normal(size=(len(blocks), 1)) / 64).astype(np.float16).view(np.uint8)
    values = dequantize(blocks.reshape(-1), Type[name]).astype(np.float32)
    out[name] = {"blocks": blocks.tobytes().hex(), "values": values.tobytes().hex()}
(pathlib.Path(__file__).parent / "dequantize.json").write_text(json.dumps(out, indent=1) + "\n")
