"""Asks `dunlin serve` with OpenAI's own client: python openai_client.py URL

The server's only model is SmolLM2-135M-Instruct.
"""

import concurrent.futures
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=120)
ask = {
    "model": "default",
    "messages": [{"role": "user", "content": "What is the boiling point of water in Celsius?"}],
    "temperature": 0,
    "max_tokens": 16,  # fewer than the answer has, on any instruction set
}

[model] = client.models.list()

whole = client.chat.completions.create(**ask)
assert whole.model == model.id, whole.model
text, usage = whole.choices[0].message.content, whole.usage
assert "100" in text and whole.choices[0].finish_reason == "length", whole
assert (usage.prompt_tokens, usage.completion_tokens) == (40, 16), usage
print(text)

chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text, chunks
assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 16, chunks[-1]

# Requests that share their steps answer as one alone does.
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for r in pool.map(lambda _: client.chat.completions.create(**ask), range(4)):
        assert r.choices[0].message.content == text, r

try:
    client.chat.completions.create(**{**ask, "model": "none"})
except openai.NotFoundError as e:
    assert e.code == "model_not_found", e
else:
    raise AssertionError("an unknown model answered")
