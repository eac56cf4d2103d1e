// libtransformers over Python's C API. What there is to do is in bridge.py, which
// this file carries with it; here tensors, texts and errors cross the border.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>

#include <atomic>
#include <cstring>
#include <initializer_list>
#include <new>
#include <thread>

#include "dlpack.h"
#include "transformers.h"

__asm__(
    ".section .rodata\n"
    "dunlin_bridge_source:\n"
    ".incbin \"bridge.py\"\n"
    ".byte 0\n"
    ".previous\n");
extern "C" __attribute__((visibility("hidden"))) const char dunlin_bridge_source[];

namespace {

PyObject *bridge;            // the module of bridge.py
PyThreadState *main_thread;  // of transformers_init
std::thread::id home;
std::atomic<int64_t> borrowed{0};
bool ended;

// Ref owns a reference.
class Ref {
 public:
  Ref(PyObject *p = nullptr) : p_(p) {}
  Ref(Ref &&other) : p_(other.take()) {}
  Ref &operator=(Ref &&other) {
    PyObject *old = p_;
    p_ = other.take();
    Py_XDECREF(old);
    return *this;
  }
  Ref(const Ref &) = delete;
  ~Ref() { Py_XDECREF(p_); }
  PyObject *get() const { return p_; }
  PyObject *take() {
    PyObject *p = p_;
    p_ = nullptr;
    return p;
  }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  PyObject *p_;
};

// Gil holds the interpreter's lock.
class Gil {
 public:
  Gil() : state_(PyGILState_Ensure()) {}
  ~Gil() { PyGILState_Release(state_); }

 private:
  PyGILState_STATE state_;
};

void set_text(char *dst, size_t size, const char *src) {
  size_t n = src ? std::strlen(src) : 0;
  if (n >= size) {
    n = size - 1;
    while (n > 0 && (static_cast<unsigned char>(src[n]) & 0xc0) == 0x80) n--;  // whole characters
  }
  if (n) std::memcpy(dst, src, n);
  dst[n] = 0;
}

int32_t fail(TransformersError *err, int32_t status, const char *type, const char *message) {
  if (err) {
    set_text(err->type, sizeof err->type, type);
    set_text(err->message, sizeof err->message, message);
  }
  return status;
}

// raised takes the exception that is set and tells it.
int32_t raised(TransformersError *err) {
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  Ref t(type), v(value), tb(trace);
  int32_t status = TRANSFORMERS_EXCEPTION;
  if (bridge && v) {
    Ref told(PyObject_CallMethod(bridge, "describe", "O", v.get()));
    long code = 0;
    const char *name = nullptr, *line = nullptr;
    if (told && PyArg_ParseTuple(told.get(), "lss", &code, &name, &line)) return fail(err, static_cast<int32_t>(code), name, line);
    PyErr_Clear();
  }
  Ref text(v ? PyObject_Str(v.get()) : nullptr);
  const char *line = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
  const char *name = t ? reinterpret_cast<PyTypeObject *>(t.get())->tp_name : "Exception";
  PyErr_Clear();
  return fail(err, status, name, line ? line : "an exception without a text");
}

// call runs f with the interpreter's lock. f returns false where an exception is set.
template <typename F>
int32_t call(TransformersError *err, F f) {
  if (!bridge || ended || std::this_thread::get_id() != home)
    return fail(err, TRANSFORMERS_NOT_RUNNING, "", "the interpreter isn't running, or this is another thread than that of transformers_init");
  Gil gil;
  return f() ? TRANSFORMERS_OK : raised(err);
}

// invoke calls a function of bridge.py and takes over the arguments.
Ref invoke(const char *name, std::initializer_list<PyObject *> args) {
  Ref tuple(PyTuple_New(static_cast<Py_ssize_t>(args.size())));
  bool ok = static_cast<bool>(tuple);
  Py_ssize_t i = 0;
  for (PyObject *a : args) {
    if (!a) ok = false;  // an exception is set
    if (tuple) {
      PyTuple_SET_ITEM(tuple.get(), i++, a);
    } else {
      Py_XDECREF(a);
    }
  }
  if (!ok) return Ref();
  Ref function(PyObject_GetAttrString(bridge, name));
  if (!function) return Ref();
  return Ref(PyObject_CallObject(function.get(), tuple.get()));
}

struct Type {
  int32_t dtype;
  DLDataType dl;
};

const Type types[] = {
    {TRANSFORMERS_F32, {2, 32, 1}}, {TRANSFORMERS_F16, {2, 16, 1}}, {TRANSFORMERS_BF16, {4, 16, 1}},
    {TRANSFORMERS_I32, {0, 32, 1}}, {TRANSFORMERS_I64, {0, 64, 1}}, {TRANSFORMERS_U8, {1, 8, 1}},
};

// Given is a tensor of the caller's while torch refers to it.
struct Given {
  DLManagedTensor tensor;
  int64_t shape[TRANSFORMERS_MAX_DIMS];
  bool weight;
};

void forget_given(DLManagedTensor *self) {
  Given *g = static_cast<Given *>(self->manager_ctx);
  if (g->weight) borrowed--;
  delete g;
}

const char unused[] = "dltensor";

void forget_capsule(PyObject *capsule) {
  if (!PyCapsule_IsValid(capsule, unused)) return;  // torch has it now
  auto *t = static_cast<DLManagedTensor *>(PyCapsule_GetPointer(capsule, unused));
  t->deleter(t);
}

// give makes a capsule of the caller's tensor.
PyObject *give(const TokenizerInput *in, bool weight = false) {
  const Type *type = nullptr;
  for (const Type &t : types)
    if (in && t.dtype == in->dtype) type = &t;
  if (!type || in->ndim < 1 || in->ndim > TRANSFORMERS_MAX_DIMS || !in->data) {
    PyErr_SetString(PyExc_ValueError, "a tensor has no data, no known type, or not 1 to 4 dimensions");
    return nullptr;
  }
  auto *g = new (std::nothrow) Given{};
  if (!g) return PyErr_NoMemory();
  for (int i = 0; i < in->ndim; i++) g->shape[i] = in->shape[i];
  g->tensor.dl_tensor.data = const_cast<void *>(in->data);
  g->tensor.dl_tensor.device = {1, 0};
  g->tensor.dl_tensor.ndim = in->ndim;
  g->tensor.dl_tensor.dtype = type->dl;
  g->tensor.dl_tensor.shape = g->shape;
  g->tensor.manager_ctx = g;
  g->tensor.deleter = forget_given;
  g->weight = weight;
  if (weight) borrowed++;
  PyObject *capsule = PyCapsule_New(&g->tensor, unused, forget_capsule);
  if (!capsule) forget_given(&g->tensor);
  return capsule;
}

// take makes a view of a tensor of torch's, which it keeps alive.
bool take(PyObject *tensor, InferenceOutput *out) {
  if (!tensor) return false;
  Ref capsule(PyObject_CallMethod(tensor, "__dlpack__", nullptr));
  if (!capsule) return false;
  auto *t = static_cast<DLManagedTensor *>(PyCapsule_GetPointer(capsule.get(), unused));
  if (!t) return false;
  const DLTensor &d = t->dl_tensor;
  int32_t dtype = 0;
  for (const Type &k : types)
    if (k.dl.code == d.dtype.code && k.dl.bits == d.dtype.bits && d.dtype.lanes == 1) dtype = k.dtype;
  if (!dtype || d.ndim < 1 || d.ndim > TRANSFORMERS_MAX_DIMS || d.device.device_type != 1) {
    PyErr_SetString(PyExc_TypeError, "torch's tensor isn't on the CPU, or its type or number of dimensions is unknown here");
    return false;
  }
  *out = InferenceOutput{};
  out->data = static_cast<const char *>(d.data) + d.byte_offset;
  out->ndim = d.ndim;
  out->dtype = dtype;
  for (int i = 0; i < d.ndim; i++) out->shape[i] = d.shape[i];
  PyCapsule_SetName(capsule.get(), "used_dltensor");
  out->owner = t;
  return true;
}

// take_text makes a view of bytes of Python's, which it keeps alive.
bool take_text(PyObject *bytes, TransformersText *out) {
  char *data = nullptr;
  Py_ssize_t size = 0;
  if (!bytes || PyBytes_AsStringAndSize(bytes, &data, &size) < 0) return false;
  Py_INCREF(bytes);
  *out = TransformersText{data, static_cast<size_t>(size), bytes};
  return true;
}

PyObject *number(uint64_t n) { return PyLong_FromUnsignedLongLong(n); }

// on_token is the function that bridge.py calls with each token.
struct Listener {
  TransformersOnToken f;
  uint64_t user;
};

PyObject *on_token(PyObject *self, PyObject *arg) {
  auto *l = static_cast<Listener *>(PyCapsule_GetPointer(self, "listener"));
  long token = PyLong_AsLong(arg);
  if (!l || (token == -1 && PyErr_Occurred())) return nullptr;
  int32_t stop = 0;
  Py_BEGIN_ALLOW_THREADS;
  stop = l->f(static_cast<int32_t>(token), l->user);
  Py_END_ALLOW_THREADS;
  return PyBool_FromLong(stop);
}

PyMethodDef on_token_def = {"on_token", on_token, METH_O, nullptr};

bool start(const TransformersConfig *config) {
  Ref code(Py_CompileString(dunlin_bridge_source, "bridge.py", Py_file_input));
  if (!code) return false;
  Ref module(PyImport_ExecCodeModule("dunlin_bridge", code.get()));
  if (!module) return false;
  bridge = module.take();
  return static_cast<bool>(invoke("start", {PyLong_FromLong(config->threads)}));
}

}  // namespace

extern "C" {

uint32_t transformers_abi_version(void) { return TRANSFORMERS_ABI_VERSION; }

int64_t transformers_borrowed(void) { return borrowed; }

int32_t transformers_init(const TransformersConfig *config, TransformersError *err) {
  if (Py_IsInitialized() || ended) return fail(err, TRANSFORMERS_INVALID, "", "there is or was an interpreter in this process: it can be started once");
  // Extension modules don't link libpython: what they need of it must be visible to all.
  Dl_info info;
  if (!dladdr(reinterpret_cast<void *>(&Py_InitializeFromConfig), &info) || !dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD))
    return fail(err, TRANSFORMERS_EXCEPTION, "", "libpython's symbols can't be made visible to extension modules");

  PyConfig c;
  PyConfig_InitIsolatedConfig(&c);  // reads no environment, installs no signal handlers
  PyStatus s = PyConfig_SetBytesString(&c, &c.program_name, config->python);
  if (!PyStatus_Exception(s)) s = PyConfig_SetBytesString(&c, &c.executable, config->python);
  if (!PyStatus_Exception(s)) s = Py_InitializeFromConfig(&c);
  PyConfig_Clear(&c);
  if (PyStatus_Exception(s)) return fail(err, TRANSFORMERS_EXCEPTION, "", s.err_msg ? s.err_msg : "Python doesn't start");

  home = std::this_thread::get_id();
  int32_t status = start(config) ? TRANSFORMERS_OK : raised(err);
  if (status != TRANSFORMERS_OK) {
    bridge = nullptr;
    ended = true;  // torch can't be imported twice
  }
  main_thread = PyEval_SaveThread();
  return status;
}

int32_t transformers_shutdown(TransformersError *err) {
  int32_t status = call(err, [] { return static_cast<bool>(invoke("shutdown", {})); });
  if (status != TRANSFORMERS_OK) return status;
  ended = true;
  PyEval_RestoreThread(main_thread);
  if (Py_FinalizeEx() < 0) return fail(err, TRANSFORMERS_EXCEPTION, "", "the interpreter couldn't write out all that it had buffered");
  return TRANSFORMERS_OK;
}

int32_t transformers_open(const char *path, const char *options, const TransformersWeight *weights, size_t count, uint64_t *model,
                          TransformersText *info, TransformersError *err) {
  return call(err, [&] {
    Ref list(PyList_New(0));
    for (size_t i = 0; list && i < count; i++) {
      Ref pair(Py_BuildValue("(sN)", weights[i].name, give(&weights[i].tensor, true)));
      if (!pair || PyList_Append(list.get(), pair.get()) < 0) return false;
    }
    Ref opened(invoke("open_model", {PyUnicode_DecodeFSDefault(path), PyUnicode_FromString(options), list.take()}));
    unsigned long long id = 0;
    PyObject *text = nullptr;
    if (!opened || !PyArg_ParseTuple(opened.get(), "KO", &id, &text) || !take_text(text, info)) return false;
    *model = id;
    return true;
  });
}

int32_t transformers_close(uint64_t model, TransformersError *err) {
  return call(err, [&] { return static_cast<bool>(invoke("close_model", {number(model)})); });
}

int32_t transformers_infer_sync(uint64_t model, const TokenizerInput *ids, int32_t kind, InferenceOutput *out, TransformersError *err) {
  return call(err, [&] {
    Ref result(invoke("infer", {number(model), give(ids), PyBool_FromLong(kind == TRANSFORMERS_HIDDEN)}));
    PyObject *tensor = nullptr;
    unsigned long long at = 0;
    if (!result || !PyArg_ParseTuple(result.get(), "OK", &tensor, &at) || !take(tensor, out)) return false;
    out->input_at = at;
    return true;
  });
}

int32_t transformers_step(uint64_t model, const TransformersRow *rows, size_t count, InferenceOutput *out, TransformersError *err) {
  return call(err, [&] {
    Ref list(PyList_New(0));
    for (size_t i = 0; list && i < count; i++) {
      Ref pair(Py_BuildValue("(KLN)", static_cast<unsigned long long>(rows[i].sequence), static_cast<long long>(rows[i].past), give(&rows[i].tokens)));
      if (!pair || PyList_Append(list.get(), pair.get()) < 0) return false;
    }
    Ref result(invoke("step", {number(model), list.take()}));
    return take(result.get(), out);
  });
}

int32_t transformers_drop(uint64_t model, const uint64_t *sequences, size_t count, TransformersError *err) {
  return call(err, [&] {
    Ref list(PyList_New(0));
    for (size_t i = 0; list && i < count; i++) {
      Ref n(number(sequences[i]));
      if (!n || PyList_Append(list.get(), n.get()) < 0) return false;
    }
    return static_cast<bool>(invoke("drop", {number(model), list.take()}));
  });
}

int32_t transformers_generate(uint64_t model, const TokenizerInput *ids, int32_t max_tokens, TransformersOnToken f, uint64_t user,
                              TransformersError *err) {
  return call(err, [&] {
    Listener l{f, user};
    Ref self(PyCapsule_New(&l, "listener", nullptr));
    if (!self) return false;
    return static_cast<bool>(
        invoke("generate", {number(model), give(ids), PyLong_FromLong(max_tokens), PyCFunction_New(&on_token_def, self.get())}));
  });
}

int32_t transformers_encode(uint64_t model, const char *text, size_t size, int32_t flags, InferenceOutput *ids, TransformersError *err) {
  return call(err, [&] {
    Ref result(invoke("encode", {number(model), PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(size), nullptr),
                                 PyBool_FromLong(flags & TRANSFORMERS_ADD_SPECIAL), PyBool_FromLong(flags & TRANSFORMERS_PARSE_SPECIAL)}));
    return take(result.get(), ids);
  });
}

int32_t transformers_decode(uint64_t model, const TokenizerInput *ids, int32_t flags, TransformersText *text, TransformersError *err) {
  return call(err, [&] {
    Ref result(invoke("decode", {number(model), give(ids), PyBool_FromLong(flags & TRANSFORMERS_SKIP_SPECIAL)}));
    return take_text(result.get(), text);
  });
}

int32_t transformers_chat_template(uint64_t model, const char *messages, size_t size, int32_t generation_prompt, TransformersText *text,
                                   TransformersError *err) {
  return call(err, [&] {
    Ref result(invoke("chat_template", {number(model), PyUnicode_DecodeUTF8(messages, static_cast<Py_ssize_t>(size), nullptr),
                                        PyBool_FromLong(generation_prompt)}));
    return take_text(result.get(), text);
  });
}

int32_t transformers_vocabulary(uint64_t model, TransformersText *bytes, InferenceOutput *offsets, InferenceOutput *kinds,
                                TransformersError *err) {
  return call(err, [&] {
    Ref result(invoke("vocabulary", {number(model)}));
    PyObject *b = nullptr, *o = nullptr, *k = nullptr;
    if (!result || !PyArg_ParseTuple(result.get(), "OOO", &b, &o, &k)) return false;
    if (!take(o, offsets)) return false;
    if (take(k, kinds) && take_text(b, bytes)) return true;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    transformers_release(offsets);
    transformers_release(kinds);
    PyErr_Restore(type, value, trace);
    return false;
  });
}

void transformers_release(InferenceOutput *out) {
  auto *t = static_cast<DLManagedTensor *>(out->owner);
  *out = InferenceOutput{};
  if (!t || ended) return;  // with the interpreter its memory went
  Gil gil;
  t->deleter(t);
}

void transformers_release_text(TransformersText *text) {
  auto *owner = static_cast<PyObject *>(text->owner);
  *text = TransformersText{};
  if (!owner || ended) return;
  Gil gil;
  Py_DECREF(owner);
}

}  // extern "C"
