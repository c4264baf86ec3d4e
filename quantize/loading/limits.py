"""How much a model may be, so that reading one is bounded in memory and time whatever its bytes say."""

from __future__ import annotations

# One protobuf message cannot hold more: its length is a signed 32-bit number.
PROTOBUF_LIMIT_BYTES = (1 << 31) - 1

# Two empty bytes of a file can become an object of a hundred, so objects are counted before they are made.
# The largest image classifiers have some 5,000 operators, of about 20 fields each.
FIELD_LIMIT_COUNT = 2_000_000

# One byte of a packed field of varints becomes up to 8 in memory. Exporters write weights as raw bytes.
PACKED_LIMIT_BYTES = 1 << 26

# Operators once all calls of the model's own functions are written out: functions that call functions twice,
# thirty deep, are 10^9 operators in a file of a few kilobytes.
OPERATOR_LIMIT_COUNT = 100_000

# numpy's arrays have 32 axes at most (64 from version 2 on), ONNX Runtime's kernels fewer.
RANK_LIMIT_COUNT = 32

# What one tensor may take whose shape the model fixes: the same that its file could hold.
TENSOR_LIMIT_BYTES = PROTOBUF_LIMIT_BYTES

# What may be computed from constants while a model is loaded: exporters leave shapes and masks, kilobytes.
CONSTANTS_LIMIT_BYTES = 1 << 30

# What one call of the model may be fed, in numbers: 1 GiB of float32, 1,700 images of 224 x 224.
INPUT_LIMIT_COUNT = 1 << 28
