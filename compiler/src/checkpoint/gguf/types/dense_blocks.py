# Writes dense_blocks.safetensors: random blocks of each encoding and the weights that the `gguf` package decodes them to.
import sys

import gguf
import numpy as np
from gguf.quants import dequantize
from safetensors.numpy import save_file

rng = np.random.default_rng(7)
tensors = {}
for name in ["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "IQ4_NL"]:
    kind = gguf.GGMLQuantizationType[name]
    elems, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (3 * 512 // elems, size), dtype=np.uint8)
    if name == "TQ1_0":
        # Bytes that five trits give: the others stand for nothing.
        blocks = ((blocks.astype(np.int64) % 243 * 256 + 242) // 243).astype(np.uint8)
    # Where the f16 fields are: finite, and not negative for the ternary ones.
    fields = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "TQ1_0": [52], "TQ2_0": [64]}
    fields |= {"Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0]}
    for at in fields[name]:
        sign = 1 if name.startswith("TQ") else rng.choice([-1, 1], len(blocks))
        scales = (rng.random(len(blocks)) * 0.1 * sign).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    if name == "TQ2_0":
        codes = rng.integers(0, 3, (len(blocks), 64, 4), dtype=np.uint8)
        blocks[:, :64] = (codes << np.array([0, 2, 4, 6], dtype=np.uint8)).sum(-1, dtype=np.uint8)
    rows = blocks.reshape(3, -1)
    tensors[name + ".bytes"] = rows
    tensors[name + ".weights"] = dequantize(rows, kind).astype(np.float32)
save_file(tensors, sys.argv[1])
