"""Tensors must hold what their shapes claim; known before an array of that shape is made."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

from quantize.loading.limits import RANK_LIMIT_COUNT, TENSOR_LIMIT_BYTES

# Bits of one element; types that an installed onnx does not know are left out. STRING has no size.
_BITS_BY_NAME: Mapping[str, int] = {
    "FLOAT": 32,
    "UINT8": 8,
    "INT8": 8,
    "UINT16": 16,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
    "BOOL": 8,
    "FLOAT16": 16,
    "DOUBLE": 64,
    "UINT32": 32,
    "UINT64": 64,
    "COMPLEX64": 64,
    "COMPLEX128": 128,
    "BFLOAT16": 16,
    "FLOAT8E4M3FN": 8,
    "FLOAT8E4M3FNUZ": 8,
    "FLOAT8E5M2": 8,
    "FLOAT8E5M2FNUZ": 8,
    "FLOAT8E8M0": 8,
    "UINT4": 4,
    "INT4": 4,
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
    "FLOAT4E2M1": 4,
    "UINT2": 2,
    "INT2": 2,
}
_TYPES: Mapping[str, int] = dict(onnx.TensorProto.DataType.items())
BITS: Mapping[int, int] = {_TYPES[name]: bits for name, bits in _BITS_BY_NAME.items() if name in _TYPES}

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
# Element types whose numbers are in another field than int32_data (onnx.proto, TensorProto).
_FIELD_OF: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "float_data",
    onnx.TensorProto.COMPLEX64: "float_data",
    onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.COMPLEX128: "double_data",
    onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.UINT32: "uint64_data",
    onnx.TensorProto.UINT64: "uint64_data",
    onnx.TensorProto.STRING: "string_data",
}
_COMPLEX = frozenset({onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128})


class SizeError(ValueError):
    """A tensor does not hold what it claims; the message begins with its name."""


def called(tensor: onnx.TensorProto) -> str:
    """What to call a tensor in messages."""
    return f"initializer {tensor.name!r}" if tensor.name else "a constant without name"


def claimed_bytes(tensor: onnx.TensorProto) -> int:
    """What a tensor takes by its shape and type.

    Raises:
        SizeError: its shape or type is none, or it would be too large.
    """
    shape = list(tensor.dims)
    if len(shape) > RANK_LIMIT_COUNT:
        raise SizeError(f"{called(tensor)} has {len(shape)} axes, {RANK_LIMIT_COUNT} at most are possible")
    if any(extent < 0 for extent in shape):
        raise SizeError(f"{called(tensor)} has the shape {shape}, with a negative extent")
    if tensor.data_type not in BITS:
        raise SizeError(f"{called(tensor)} has the element type {tensor.data_type}, which takes no numbers")
    size_bytes: int = (math.prod(shape) * BITS[tensor.data_type] + 7) // 8
    if size_bytes > TENSOR_LIMIT_BYTES:
        raise SizeError(f"{called(tensor)} claims {size_bytes} bytes by its shape {shape}, more than 2 GiB")
    return size_bytes


def check_size(tensor: onnx.TensorProto) -> None:
    """Compares the claim of a tensor with what is there; external data is `quantize.loading.external`'s.

    Raises:
        SizeError: they differ.
    """
    if tensor.HasField("segment"):
        raise SizeError(f"{called(tensor)} is a part of a larger one, which nobody can put together")
    if tensor.data_type == onnx.TensorProto.STRING:
        shape = list(tensor.dims)
        if any(extent < 0 for extent in shape) or math.prod(shape) != len(tensor.string_data):
            raise SizeError(
                f"{called(tensor)} has the shape {shape}, but holds {len(tensor.string_data)} strings"
            )
        return
    size_bytes = claimed_bytes(tensor)
    filled = [name for name in _FIELDS if len(getattr(tensor, name))]
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size_bytes or filled:
            raise SizeError(
                f"{called(tensor)} claims {size_bytes} bytes by its shape {list(tensor.dims)}, but holds "
                f"{len(tensor.raw_data)}{' and more in another field' if filled else ''}"
            )
        return
    field = _FIELD_OF.get(tensor.data_type, "int32_data")
    expected, have = _count(tensor), len(getattr(tensor, field))
    if have != expected or any(name != field for name in filled):
        raise SizeError(
            f"{called(tensor)} claims {expected} numbers by its shape {list(tensor.dims)}, but holds {have}"
            + (f" and some in {filled[0]}" if filled and filled != [field] else "")
        )


def _count(tensor: onnx.TensorProto) -> int:
    """Entries of the field of numbers; two of 4 bits share one, and four of 2 bits."""
    count: int = math.prod(tensor.dims)
    if tensor.data_type in _COMPLEX:
        return 2 * count
    shared = max(8 // BITS[tensor.data_type], 1)  # one of 6 bits has a byte of its own here
    return -(-count // shared)
