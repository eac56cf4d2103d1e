"""What plain Transformers gives: no line of the bridge runs here.

logits.py MODEL THREADS reads a JSON list of lists of ids, and writes for each the logits
and then the last hidden state, little-endian float32.
"""

import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")

import torch
import transformers

path, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
transformers.logging.set_verbosity_error()
more = {"gguf_file": os.path.basename(path)} if path.endswith(".gguf") else {}
source = os.path.dirname(path) if more else path
model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **more).eval()
with torch.no_grad():
    for ids in json.load(sys.stdin):
        out = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        sys.stdout.buffer.write(out.logits.contiguous().numpy().tobytes())
        sys.stdout.buffer.write(out.hidden_states[-1].contiguous().numpy().tobytes())
