// The in-memory layout of DLPack's unversioned tensors, by which torch gives
// and takes memory without copying (https://dmlc.github.io/dlpack/latest/c_api.html).
#ifndef DUNLIN_DLPACK_H
#define DUNLIN_DLPACK_H

#include <stdint.h>

struct DLDevice {
  int32_t device_type;  // 1 is the CPU
  int32_t device_id;
};

struct DLDataType {
  uint8_t code;  // 0 signed integer, 1 unsigned integer, 2 float, 4 bfloat
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides;  // in elements; null for row-major
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void *manager_ctx;
  void (*deleter)(DLManagedTensor *self);
};

#endif
