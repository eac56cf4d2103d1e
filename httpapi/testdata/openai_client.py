"""Checks a dunlin server with OpenAI's own client: python openai_client.py URL

The server has the models tiny, org/failing, busy and waiting of TestOpenAIClient.
"""

import sys

import openai

TEXT = "Hello, wörld 🦆!"
HI = [{"role": "user", "content": "Hi"}]

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=30)


def fails(kind, code, param, **kwargs):
    try:
        client.chat.completions.create(**{"model": "tiny", "messages": HI, **kwargs})
    except kind as e:
        assert (e.code, e.param) == (code, param), (e.code, e.param, e.body)
        return e
    raise AssertionError(f"{kwargs} was accepted")


def test_models():
    assert [m.id for m in client.models.list()] == ["tiny", "org/failing", "busy", "waiting"]
    assert client.models.retrieve("tiny").object == "model"
    assert client.models.retrieve("org/failing").id == "org/failing"
    try:
        client.models.retrieve("none")
    except openai.NotFoundError as e:
        assert e.code == "model_not_found"
    else:
        raise AssertionError("an unknown model was found")


def test_whole():
    r = client.chat.completions.create(model="tiny", messages=HI)
    c = r.choices[0]
    assert r.object == "chat.completion" and r.id.startswith("chatcmpl-") and r.model == "tiny" and r.created > 0
    assert (c.message.content, c.message.role, c.finish_reason) == (TEXT, "assistant", "stop"), c
    n = len(TEXT.encode()) + 1
    assert r.usage.completion_tokens == n and r.usage.total_tokens == r.usage.prompt_tokens + n, r.usage
    assert r.usage.prompt_tokens_details.cached_tokens == 0
    r = client.chat.completions.create(model="default", messages=HI, max_completion_tokens=5, temperature=0, top_p=0.5,
                                       seed=7, stop=["x", "y"], user="me", extra_body={"top_k": 3})
    assert (r.choices[0].message.content, r.choices[0].finish_reason) == ("Hello", "length"), r
    # An answer can be sent back as it came.
    again = client.chat.completions.create(model="tiny", messages=[*HI, r.choices[0].message.model_dump(), *HI])
    assert again.choices[0].message.content == TEXT


def test_stream():
    with client.chat.completions.create(model="tiny", messages=HI, stream=True) as s:
        chunks = list(s)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert len({c.id for c in chunks}) == 1 and all(c.usage is None for c in chunks)


def test_stream_usage():
    chunks = list(client.chat.completions.create(model="tiny", messages=HI, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(TEXT.encode()) + 1
    assert chunks[-2].choices[0].finish_reason == "stop" and all(c.usage is None for c in chunks[:-1])


def test_logprobs():
    want = {"model": "tiny", "messages": HI, "logprobs": True, "top_logprobs": 2, "max_tokens": 9}
    whole = client.chat.completions.create(**want).choices[0].logprobs.content
    streamed = [p for c in client.chat.completions.create(**want, stream=True) if c.choices[0].logprobs
                for p in c.choices[0].logprobs.content]
    assert whole == streamed and len(whole) == 9
    for p in whole:
        assert p.logprob <= 0 and len(p.top_logprobs) == 2 and p.top_logprobs[0].token == p.token
    assert bytes(b for p in whole for b in p.bytes) == TEXT.encode()[:9]


def test_errors():
    e = fails(openai.NotFoundError, "model_not_found", "model", model="none")
    assert e.type == "invalid_request_error" and e.response.headers["x-request-id"]
    fails(openai.BadRequestError, "unsupported_parameter", "n", n=2)
    fails(openai.BadRequestError, "unsupported_parameter", "tools",
          tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    fails(openai.BadRequestError, "unsupported_parameter", "response_format", response_format={"type": "json_object"})
    fails(openai.BadRequestError, "unsupported_parameter", "messages[0].content[1]", messages=[
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}])
    fails(openai.BadRequestError, "invalid_value", "temperature", temperature=-1)
    fails(openai.BadRequestError, "unknown_parameter", "typo", extra_body={"typo": 1})
    fails(openai.BadRequestError, "context_length_exceeded", "messages", messages=[{"role": "user", "content": "x" * 5000}])
    e = fails(openai.RateLimitError, "overloaded", None, model="busy")
    assert e.response.headers["retry-after"] == "1"
    e = fails(openai.InternalServerError, "internal_error", None, model="org/failing")
    assert "secret" not in str(e) and e.response.headers["x-request-id"] in str(e), e


def test_error_in_stream():
    got = ""
    try:
        for c in client.chat.completions.create(model="org/failing", messages=HI, stream=True):
            got += c.choices[0].delta.content or ""
    except openai.APIError as e:
        assert e.code == "internal_error" and "secret" not in str(e), e
    else:
        raise AssertionError("the stream ended well")


def test_cancel():
    s = client.chat.completions.create(model="waiting", messages=HI, stream=True)
    s.close()  # it was opened by a ping, and no token ever comes


def test_completions():
    r = client.completions.create(model="tiny", prompt="Hi", max_tokens=100)
    assert (r.object, r.choices[0].text, r.choices[0].finish_reason) == ("text_completion", TEXT, "stop"), r
    text = "".join(c.choices[0].text for c in client.completions.create(model="tiny", prompt=[72, 105], stream=True))
    assert text == TEXT.encode()[:16].decode(errors="replace"), text


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print("ok", name)
