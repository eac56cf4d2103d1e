"""Times OpenVINO GenAI on a GGUF file: prints one JSON object with the rates of
a prompt's prefill and of decode, as `dunlin bench` measures them."""

import argparse
import json
import random
import statistics
import time

import numpy as np
import openvino as ov
import openvino_genai as genai


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("-p", type=int, default=512)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-r", type=int, default=3)
    args = parser.parse_args()

    pipe = genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.t)

    def once(prompt, answer):
        ids = np.array([[random.randrange(1000, 40000) for _ in range(prompt)]], dtype=np.int64)
        tokens = ov.Tensor(ids)
        config = genai.GenerationConfig(max_new_tokens=answer, ignore_eos=True, do_sample=False)
        begin = time.perf_counter()
        res = pipe.generate(genai.TokenizedInputs(tokens, ov.Tensor(np.ones_like(ids))), config)
        took = time.perf_counter() - begin
        assert len(res.tokens[0]) == answer, f"{len(res.tokens[0])} tokens, not {answer}"
        return took

    def rates(tokens, prompt, answer):
        once(prompt, answer)
        return [tokens / once(prompt, answer) for _ in range(args.r)]

    out = {"version": genai.get_version()}
    if args.p:
        out["pp"] = statistics.median(rates(args.p, args.p, 1))
    if args.n:
        out["tg"] = statistics.median(rates(args.n, 1, args.n))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
