// The C interface of libtransformers: Hugging Face Transformers in the calling
// process, with tensors passed as pointer, shape and type.
//
// Every call but transformers_abi_version, transformers_release and
// transformers_release_text is made on one thread, the one that called
// transformers_init. Calls return a TransformersStatus; where it isn't
// TRANSFORMERS_OK, the TransformersError that the caller gave says why. There is
// no error state outside of the call.
//
// Memory: what goes in belongs to the caller and is read during the call only, but
// for the weights of transformers_open, which stay readable until their model
// is closed and transformers_borrowed is 0. What comes out is a view of torch's or Python's memory
// and stays valid until it is released, also after its model was closed.
#ifndef DUNLIN_TRANSFORMERS_H
#define DUNLIN_TRANSFORMERS_H

#include <stddef.h>
#include <stdint.h>

// The version of everything in this file. A caller compares it with
// transformers_abi_version before it makes any other call.
#define TRANSFORMERS_ABI_VERSION 1u

#define TRANSFORMERS_MAX_DIMS 4

#ifdef __cplusplus
extern "C" {
#endif

enum TransformersStatus {
  TRANSFORMERS_OK = 0,
  TRANSFORMERS_EXCEPTION = 1,    // Python code raised
  TRANSFORMERS_INVALID = 2,      // an argument can't be used
  TRANSFORMERS_NOT_FOUND = 3,    // no such file, directory or model
  TRANSFORMERS_UNSUPPORTED = 4,  // understood, but not supported
  TRANSFORMERS_NO_MEMORY = 5,    // an allocation failed
  TRANSFORMERS_NOT_RUNNING = 6,  // before init, after shutdown, or on another thread
};

enum TransformersDType {
  TRANSFORMERS_F32 = 1,
  TRANSFORMERS_F16 = 2,
  TRANSFORMERS_BF16 = 3,
  TRANSFORMERS_I32 = 4,
  TRANSFORMERS_I64 = 5,
  TRANSFORMERS_U8 = 6,
};

// TransformersError is written where a call fails; texts end with a zero byte.
struct TransformersError {
  char type[64];      // the exception's class
  char message[960];  // one line: the last of the traceback
};

// TokenizerInput is a tensor of the caller's, row-major.
struct TokenizerInput {
  const void *data;
  int64_t shape[TRANSFORMERS_MAX_DIMS];
  int32_t ndim;
  int32_t dtype;
};

// InferenceOutput is a tensor of torch's, row-major.
struct InferenceOutput {
  const void *data;
  int64_t shape[TRANSFORMERS_MAX_DIMS];
  int32_t ndim;
  int32_t dtype;
  void *owner;        // what transformers_release frees
  uint64_t input_at;  // where torch saw the call's input: the caller's own address
};

// TransformersText is bytes of Python's.
struct TransformersText {
  const char *data;
  size_t size;
  void *owner;
};

struct TransformersConfig {
  const char *python;  // the interpreter of the virtual environment, such as VENV/bin/python
  int32_t threads;     // that torch computes with; 0 for its own choice
};

// TransformersWeight is a tensor that torch may use where it lies.
struct TransformersWeight {
  const char *name;  // in the GGUF file
  struct TokenizerInput tensor;
};

// TransformersRow is one sequence of a step: its tokens after those of earlier steps.
struct TransformersRow {
  uint64_t sequence;  // any number that the caller chose
  int64_t past;       // tokens of earlier steps; another number is refused
  struct TokenizerInput tokens;
};

// TransformersOnToken gets each token; what isn't 0 ends the generation.
typedef int32_t (*TransformersOnToken)(int32_t token, uint64_t user);

enum TransformersInferKind {
  TRANSFORMERS_LOGITS = 0,  // [batch, tokens, vocabulary]
  TRANSFORMERS_HIDDEN = 1,  // the last hidden state, [batch, tokens, width]
};

enum TransformersTextFlags {
  TRANSFORMERS_ADD_SPECIAL = 1,    // encode: add BOS and EOS where the tokenizer does
  TRANSFORMERS_PARSE_SPECIAL = 2,  // encode: read the text of special tokens as those tokens
  TRANSFORMERS_SKIP_SPECIAL = 4,   // decode: leave special tokens out
};

uint32_t transformers_abi_version(void);

// transformers_init starts the interpreter and imports torch and Transformers, which
// takes seconds. It can be called once in a process. No signal handler is installed
// and nothing of the environment is read.
int32_t transformers_init(const struct TransformersConfig *config, struct TransformersError *err);

// transformers_shutdown closes every model and ends the interpreter, for good.
int32_t transformers_shutdown(struct TransformersError *err);

// transformers_open loads a Hugging Face directory or a GGUF file, from the disk
// only. options is a JSON object: "dtype" is a name of torch's or "auto". info becomes a
// JSON object. weights are parameters of a GGUF file: torch uses them in place of its
// own copy where the values and the type are the same.
int32_t transformers_open(const char *path, const char *options, const struct TransformersWeight *weights, size_t count,
                          uint64_t *model, struct TransformersText *info, struct TransformersError *err);
int32_t transformers_close(uint64_t model, struct TransformersError *err);

// transformers_infer_sync runs ids, [tokens] or [batch, tokens], through the model from
// an empty context.
int32_t transformers_infer_sync(uint64_t model, const struct TokenizerInput *ids, int32_t kind, struct InferenceOutput *out,
                                struct TransformersError *err);

// transformers_step extends sequences and gives the logits after each one's last
// token, float32 [rows, vocabulary]. All rows have as many tokens, or all are new.
// Keys and values stay with the model until transformers_drop. After an error the sequences
// of the call are gone.
int32_t transformers_step(uint64_t model, const struct TransformersRow *rows, size_t count, struct InferenceOutput *out,
                          struct TransformersError *err);
int32_t transformers_drop(uint64_t model, const uint64_t *sequences, size_t count, struct TransformersError *err);

// transformers_generate is Transformers' own greedy generation.
int32_t transformers_generate(uint64_t model, const struct TokenizerInput *ids, int32_t max_tokens, TransformersOnToken on_token,
                              uint64_t user, struct TransformersError *err);

// transformers_encode gives int32 ids for UTF-8 text, transformers_decode UTF-8 for ids.
int32_t transformers_encode(uint64_t model, const char *text, size_t size, int32_t flags, struct InferenceOutput *ids,
                            struct TransformersError *err);
int32_t transformers_decode(uint64_t model, const struct TokenizerInput *ids, int32_t flags, struct TransformersText *text,
                            struct TransformersError *err);

// transformers_chat_template renders a JSON list of {"role", "content"}.
int32_t transformers_chat_template(uint64_t model, const char *messages, size_t size, int32_t generation_prompt,
                                   struct TransformersText *text, struct TransformersError *err);

// transformers_vocabulary gives the bytes of all tokens one after the other, where
// each begins and the last ends (int64, [tokens+1]), and what each is (uint8, [tokens]): 0 text, 1
// special, 2 no token.
int32_t transformers_vocabulary(uint64_t model, struct TransformersText *bytes, struct InferenceOutput *offsets,
                                struct InferenceOutput *kinds, struct TransformersError *err);

// Released memory must not be used any more. Releasing twice does nothing.
void transformers_release(struct InferenceOutput *out);
void transformers_release_text(struct TransformersText *text);

// transformers_borrowed is how many tensors of transformers_open's weights torch
// still refers to.
int64_t transformers_borrowed(void);

#ifdef __cplusplus
}
#endif

#endif
