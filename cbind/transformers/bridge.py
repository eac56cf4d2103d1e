"""What libtransformers does in Python: models, their sequences, their tokenizers.

transformers.cc calls the functions at the end of this file, one at a time and on one
thread. Tensors come as DLPack capsules over the caller's memory and are only used during
the call; those that go out are kept by the caller.
"""

import functools
import itertools
import json
import os
import re
import sys
import traceback
import warnings

# TransformersStatus of transformers.h.
EXCEPTION, INVALID, NOT_FOUND, UNSUPPORTED, NO_MEMORY = 1, 2, 3, 4, 5

torch = None
transformers = None
models = {}
numbers = itertools.count(1)


class Refusal(Exception):
    """An error with a status of its own."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def describe(exc):
    """The status, the class and the last line of an exception."""
    status = EXCEPTION
    if isinstance(exc, Refusal):
        return exc.status, "", one_line(str(exc))
    if isinstance(exc, MemoryError) or isinstance(exc, RuntimeError) and "can't allocate memory" in str(exc):
        status = NO_MEMORY
    elif isinstance(exc, UnicodeError):
        status = INVALID
    elif isinstance(exc, FileNotFoundError):
        status = NOT_FOUND
    elif isinstance(exc, NotImplementedError):
        status = UNSUPPORTED
    lines = [line.strip() for line in "".join(traceback.format_exception_only(exc)).splitlines()]
    lines = [line for line in lines if line] or [type(exc).__name__]
    # A message of several lines begins with what happened.
    return status, type(exc).__name__, one_line(lines[0] if ":" in lines[0] else lines[-1])


def one_line(text):
    return " ".join(text.encode("utf-8", "replace").decode().replace("\0", "").split())


class Batch:
    """Sequences whose keys and values lie in one cache, each row padded on its left."""

    def __init__(self, sequences, cache, pads, length):
        self.sequences, self.cache, self.pads, self.length = sequences, cache, pads, length


class Batched:
    """Steps of several sequences are one padded forward.

    The keys and values of all sequences of the last step lie in one batch, in its order. A
    step of other sequences copies what it needs of each into a new one.
    """

    def __init__(self, model):
        self.model = model
        self.batch_of = {}  # of a sequence

    def step(self, sequences, ids):
        longest = max(i.shape[0] for i in ids)
        if min(i.shape[0] for i in ids) < longest and any(s in self.batch_of for s in sequences):
            raise Refusal(INVALID, "rows of several lengths go together only if all of their sequences are new")
        batch = self.gather(sequences)
        try:
            return self.forward(batch, ids, longest)
        except BaseException:
            self.drop(sequences)  # some layers may have the new tokens, others not
            raise

    def forward(self, batch, ids, longest):
        if len(ids) == 1:
            tokens = ids[0].view(1, -1)  # where the caller has them
        else:
            tokens = torch.zeros(len(ids), longest, dtype=ids[0].dtype)
            for row, i in enumerate(ids):
                tokens[row, longest - i.shape[0] :] = i
                batch.pads[row] += longest - i.shape[0]
        more = {}
        if any(batch.pads):
            mask = torch.ones(len(ids), batch.length + longest, dtype=torch.int64)
            for row, pad in enumerate(batch.pads):
                mask[row, :pad] = 0
            more = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, batch.length :]}
        logits = self.model.logits(tokens, batch.cache, more)
        batch.length += longest
        return logits

    def gather(self, sequences):
        old = [self.batch_of.get(s) for s in sequences]
        if old[0] is not None and old[0].sequences == sequences:
            return old[0]
        lengths = [self.past(s) for s in sequences]
        length = max(lengths)
        cache = transformers.DynamicCache()
        batch = Batch(list(sequences), cache, [length - n for n in lengths], length)
        if length:
            some = next(b for b in old if b)
            for layer in range(len(some.cache.layers)):
                states = []
                for name in ("keys", "values"):
                    like = getattr(some.cache.layers[layer], name)
                    all_rows = like.new_zeros(len(sequences), like.shape[1], length, like.shape[3])
                    for row, (s, b) in enumerate(zip(sequences, old)):
                        if b:
                            at = b.sequences.index(s)
                            all_rows[row, :, batch.pads[row] :] = getattr(b.cache.layers[layer], name)[at, :, b.pads[at] :]
                    states.append(all_rows)
                cache.update(*states, layer)
        left = {s for b in old if b for s in b.sequences if s not in sequences and self.batch_of.get(s) is b}
        for s in sequences:
            self.batch_of[s] = batch
        for s in left:  # so that nobody keeps a batch whose others have gone
            if len(self.batch_of[s].sequences) > 1:
                self.gather([s])
        return batch

    def past(self, sequence):
        b = self.batch_of.get(sequence)
        return b.length - b.pads[b.sequences.index(sequence)] if b else 0

    def drop(self, sequences):
        for s in sequences:
            self.batch_of.pop(s, None)


class Single:
    """Each sequence has a cache of its own kind, and a forward of its own."""

    def __init__(self, model):
        self.model = model
        self.caches = {}

    def step(self, sequences, ids):
        try:
            return torch.cat([self.one(s, i) for s, i in zip(sequences, ids)])
        except BaseException:
            self.drop(sequences)
            raise

    def one(self, sequence, ids):
        cache, tokens = self.caches.get(sequence) or (transformers.DynamicCache(config=self.model.net.config), 0)
        self.caches[sequence] = cache, tokens + ids.shape[0]
        return self.model.logits(ids.view(1, -1), cache, {})

    def past(self, sequence):
        return self.caches[sequence][1] if sequence in self.caches else 0

    def drop(self, sequences):
        for s in sequences:
            self.caches.pop(s, None)


class Recompute:
    """A model without a cache that fits is run over the whole sequence at each step."""

    def __init__(self, model):
        self.model = model
        self.texts = {}

    def step(self, sequences, ids):
        rows = []
        for s, i in zip(sequences, ids):
            # A copy: the caller's memory is lent for the call only.
            self.texts[s] = torch.cat([self.texts[s], i]) if s in self.texts else i.clone()
            rows.append(self.model.logits(self.texts[s].view(1, -1), None, {}))
        return torch.cat(rows)

    def past(self, sequence):
        return len(self.texts.get(sequence, ()))

    def drop(self, sequences):
        for s in sequences:
            self.texts.pop(s, None)


class Model:
    def __init__(self, path, options, weights):
        source, more = path, {}
        if os.path.isfile(path):
            if not path.endswith(".gguf"):
                raise Refusal(UNSUPPORTED, f"{path} is neither a directory nor a .gguf file")
            source, more = os.path.dirname(path) or ".", {"gguf_file": os.path.basename(path)}
            read_gguf_once()
        elif not os.path.isdir(path):
            raise Refusal(NOT_FOUND, f"there is no directory or file {path}")
        elif not os.path.exists(os.path.join(path, "config.json")):
            raise Refusal(NOT_FOUND, f"{path} isn't a Hugging Face model: it has no config.json")
        more.update(local_files_only=True, trust_remote_code=False)
        config = transformers.AutoConfig.from_pretrained(source, **more)
        if getattr(config, "is_encoder_decoder", False):
            raise Refusal(UNSUPPORTED, f"{config.model_type} is an encoder with a decoder: only decoders are served")
        dtype = options.get("dtype") or "float32"
        if dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise Refusal(INVALID, f"there is no dtype {dtype}")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(source, **more)
        self.net = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype if dtype == "auto" else getattr(torch, dtype), **more
        )
        self.net.eval()
        self.net.requires_grad_(False)
        self.shared = 0
        if weights:
            self.share(weights, gguf_names(self.net))
        import inspect

        parameters = inspect.signature(self.net.forward).parameters
        self.only_last = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self.positions = "position_ids" in parameters
        self.sequences = self.choose()

    def logits(self, ids, cache, more):
        """float32 [rows, vocabulary] after the last of ids."""
        if not self.positions:
            more.pop("position_ids", None)
        given = {"past_key_values": cache, "use_cache": True} if cache is not None else {"use_cache": False}
        out = self.net(input_ids=ids, **given, **self.only_last, **more)
        return out.logits[:, -1, :].float().contiguous()

    def choose(self):
        """The best way to keep sequences that gives what a forward of the whole does.

        Tried out, because architectures differ in what they keep of a sequence and in whether they heed
        a mask: two sequences of 3 and 2 tokens in one batch, and one token more of each.
        """
        ids = torch.tensor([1, 2, 3, 1], dtype=torch.int32)
        with torch.inference_mode():
            want = [self.logits(ids.view(1, -1), None, {}), self.logits(ids[1:].view(1, -1), None, {})]
            self.vocabulary_size = want[0].shape[-1]
            for kind in (Batched, Single):
                way = kind(self)
                try:
                    way.step([0, 1], [ids[:3], ids[1:3]])
                    self.kv_bytes = self.cache_bytes(way)
                    got = way.step([0, 1], [ids[3:], ids[3:]])
                except Exception:
                    continue
                if all(close(got[row], want[row][0]) for row in (0, 1)):
                    return kind(self)
        self.kv_bytes = 0
        return Recompute(self)

    def cache_bytes(self, way):
        """How many bytes of keys and values a token takes."""
        if isinstance(way, Batched):
            batch = way.batch_of[0]
            layers, tokens = batch.cache.layers, len(batch.sequences) * batch.length
            if any(type(layer) is not transformers.cache_utils.DynamicLayer or layer.keys is None for layer in layers):
                raise NotImplementedError
        else:
            layers, tokens = way.caches[0][0].layers, 3
        total = 0
        for layer in layers:
            for name in ("keys", "values"):
                states = getattr(layer, name, None)
                if states is not None:
                    total += states.numel() * states.element_size()
        return -(-total // tokens)

    def share(self, weights, names):
        """Puts tensors over the caller's memory in the place of equal ones."""
        parameters = dict(self.net.named_parameters(remove_duplicate=False))
        for name, capsule in weights:
            tensor = torch.utils.dlpack.from_dlpack(capsule)
            parameter = parameters.get(names.get(name, ""))
            if parameter is None or parameter.dtype != tensor.dtype or parameter.shape != tensor.shape:
                continue
            # Some files keep weights in another order or with 1 added: those stay copies.
            if torch.equal(parameter.data, tensor):
                parameter.data = tensor
                self.shared += tensor.numel() * tensor.element_size()

    def info(self):
        config, text = self.net.config, self.net.config.get_text_config()
        ends = []
        for source in (getattr(self.net, "generation_config", None), text, self.tokenizer):
            end = getattr(source, "eos_token_id", None)
            ends += end if isinstance(end, (list, tuple)) else [] if end is None else [end]
        context = 0
        for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx"):
            context = context or getattr(text, name, None) or 0
        if not context and self.tokenizer.model_max_length < 1 << 30:
            context = self.tokenizer.model_max_length
        types = {}
        for p in self.net.parameters():
            types[p.dtype] = types.get(p.dtype, 0) + p.numel()
        return {
            "name": str(getattr(config, "name_or_path", "") or getattr(config, "_name_or_path", "")),
            "architecture": config.model_type,
            "dtype": str(max(types, key=types.get)).removeprefix("torch."),
            "parameters": sum(types.values()),
            "bytes": sum(p.numel() * p.element_size() for p in self.net.parameters()),
            "shared_bytes": self.shared,
            "context_length": int(context),
            "vocabulary": self.vocabulary_size,
            "hidden": text.hidden_size if hasattr(text, "hidden_size") else 0,
            "kv_bytes": self.kv_bytes,
            "batching": type(self.sequences).__name__.lower(),
            "end_ids": sorted({int(e) for e in ends if 0 <= int(e) < self.vocabulary_size}),
            "space_prefix": space_prefix(self.tokenizer),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }


def close(a, b):
    return bool(torch.isfinite(a).all()) and float((a - b).abs().max()) <= 0.02 * float(b.std()) + 1e-6


@functools.cache
def read_gguf_once():
    """Transformers reads a GGUF file thrice, and walks its names for each tensor."""
    import gguf

    gguf.GGUFReader = functools.lru_cache(maxsize=1)(gguf.GGUFReader)
    gguf.get_tensor_name_map = functools.lru_cache(maxsize=4)(gguf.get_tensor_name_map)


def forget_gguf():
    gguf = sys.modules.get("gguf")
    if gguf is not None and hasattr(gguf.GGUFReader, "cache_clear"):
        gguf.GGUFReader.cache_clear()


def gguf_names(net):
    """Which parameter a tensor of a GGUF file becomes."""
    from transformers.modeling_gguf_pytorch_utils import TensorProcessor, get_gguf_hf_weights_map

    return get_gguf_hf_weights_map(net, TensorProcessor(config={}))


def byte_table():
    """The characters by which byte-level vocabularies write bytes (as in GPT-2's encoder.py)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(others)}


def decoders(spec):
    """The parts of a tokenizer.json's decoder."""
    if not spec:
        return []
    return [part for one in spec.get("decoders", []) for part in decoders(one)] or [spec]


def decoder_parts(tokenizer):
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return decoders(json.loads(backend.to_str()).get("decoder")) if backend is not None else []


def space_prefix(tokenizer):
    """Whether decoding takes a space off the beginning of a text."""
    return any(
        p["type"] == "Strip" and p.get("content") == " " and p.get("start", 0) > 0
        or p["type"] == "Metaspace" and p.get("prepend_scheme", "always") != "never"
        or p["type"] == "WordPiece"
        for p in decoder_parts(tokenizer)
    )


def pieces(tokenizer):
    """A function from a token's text in the vocabulary to the bytes that it stands for."""
    parts = decoder_parts(tokenizer)
    kinds = {p["type"] for p in parts}
    if "ByteLevel" in kinds:
        table = byte_table()
        return lambda piece: bytes(table[c] for c in piece) if all(c in table for c in piece) else piece.encode()
    if "WordPiece" in kinds:
        prefix = next(p for p in parts if p["type"] == "WordPiece").get("prefix", "##")
        return lambda piece: piece[len(prefix) :].encode() if piece.startswith(prefix) else b" " + piece.encode()
    if kinds & {"ByteFallback", "Metaspace", "Replace"}:
        space = next((p.get("replacement") for p in parts if p["type"] == "Metaspace"), None) or "\u2581"
        byte = re.compile("<0x([0-9A-Fa-f]{2})>")

        def piece_bytes(piece):
            found = byte.fullmatch(piece) if "ByteFallback" in kinds else None
            return bytes([int(found[1], 16)]) if found else piece.replace(space, " ").encode()

        return piece_bytes
    return lambda piece: tokenizer.convert_tokens_to_string([piece]).encode()


def borrow(capsule):
    return torch.utils.dlpack.from_dlpack(capsule)


def get(number):
    model = models.get(number)
    if model is None:
        raise Refusal(NOT_FOUND, "the model was closed")
    return model


# What transformers.cc calls.


def start(threads):
    global torch, transformers
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    os.environ.update(TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
    warnings.simplefilter("ignore")
    import torch
    import transformers

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    if threads > 0:
        torch.set_num_threads(threads)


def shutdown():
    for number in list(models):
        close_model(number)


def open_model(path, options, weights):
    try:
        model = Model(path, json.loads(options), weights)
    finally:
        forget_gguf()
    number = next(numbers)
    models[number] = model
    return number, json.dumps(model.info()).encode()


def close_model(number):
    import gc

    models.pop(number, None)
    gc.collect()


def infer(number, capsule, hidden):
    model = get(number)
    ids = borrow(capsule)
    batch = ids if ids.dim() == 2 else ids.view(1, -1)
    with torch.inference_mode():
        if hidden:
            out = model.net.base_model(input_ids=batch, use_cache=False).last_hidden_state
        else:
            out = model.net(input_ids=batch, use_cache=False).logits
    return out.float().contiguous(), ids.data_ptr()


def step(number, rows):
    model = get(number)
    for sequence, past, _ in rows:
        if past != model.sequences.past(sequence):
            raise Refusal(NOT_FOUND, f"sequence {sequence} has {model.sequences.past(sequence)} tokens here, not {past}")
    with torch.inference_mode():
        return model.sequences.step([s for s, _, _ in rows], [borrow(c) for _, _, c in rows])


def drop(number, sequences):
    if number in models:
        models[number].sequences.drop(sequences)


def generate(number, capsule, max_tokens, on_token):
    model = get(number)
    ids = borrow(capsule).view(1, -1).long()

    class Stop(transformers.StoppingCriteria):
        def __call__(self, input_ids, scores, **_):
            return torch.tensor([on_token(int(input_ids[0, -1]))])

    with torch.inference_mode():
        model.net.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            stopping_criteria=transformers.StoppingCriteriaList([Stop()]),
        )


def encode(number, text, add_special, parse_special):
    tokenizer = get(number).tokenizer
    out = tokenizer(text, add_special_tokens=add_special, split_special_tokens=not parse_special, return_attention_mask=False)
    return torch.tensor(out["input_ids"], dtype=torch.int32)


def decode(number, capsule, skip_special):
    return get(number).tokenizer.decode(borrow(capsule).tolist(), skip_special_tokens=skip_special).encode()


def chat_template(number, messages, generation_prompt):
    tokenizer = get(number).tokenizer
    if not tokenizer.chat_template:
        raise Refusal(UNSUPPORTED, "the model has no chat template")
    import jinja2

    try:
        text = tokenizer.apply_chat_template(json.loads(messages), tokenize=False, add_generation_prompt=generation_prompt)
    except jinja2.exceptions.TemplateError as e:
        raise Refusal(INVALID, str(e)) from e
    return text.encode()


def vocabulary(number):
    model = get(number)
    tokenizer = model.tokenizer
    to_bytes = pieces(tokenizer)
    added = tokenizer.added_tokens_decoder
    data, offsets, kinds = bytearray(), [0], []
    for token, piece in enumerate(tokenizer.convert_ids_to_tokens(range(max(len(tokenizer), model.vocabulary_size)))):
        if token in added:
            data += added[token].content.encode()
            kinds.append(1 if added[token].special else 0)
        elif piece is None:
            kinds.append(2)
        else:
            data += to_bytes(piece)
            kinds.append(0)
        offsets.append(len(data))
    return bytes(data), torch.tensor(offsets, dtype=torch.int64), torch.tensor(kinds, dtype=torch.uint8)
