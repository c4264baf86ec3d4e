"""What shows that a model has been quantized already: its operators, or the type of its weights."""

from __future__ import annotations

import math
from collections import Counter

import onnx

from quantize.loading.contents import nodes, plain, tensors
from quantize.loading.sizes import called

# Whatever their domain; operators called QLinear… count as well.
QUANTIZED_OPERATORS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulNBits",
        "MatMulBnb4",
        "GatherBlockQuantized",
        "QGemm",
        "QAttention",
        "QEmbedLayerNormalization",
        "QMoE",
    }
)
_SMALL_TYPES = (
    "UINT8",
    "INT8",
    "UINT4",
    "INT4",
    "UINT2",
    "INT2",
    "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2",
    "FLOAT8E5M2FNUZ",
    "FLOAT4E2M1",
)
_NAMES = {number: name for name, number in onnx.TensorProto.DataType.items()}


def what_is_quantized(model: onnx.ModelProto) -> str | None:
    """Says what was found, the first by name and all by number; None in a model of floats.

    A single small integer is a parameter; several are weights, which a Cast and a Mul may turn into floats.
    """
    found = [
        node
        for node in nodes(model)
        if node.op_type in QUANTIZED_OPERATORS or node.op_type.startswith("QLinear")
    ]
    if found:
        counts = ", ".join(
            f"{count} {plain(kind)}" for kind, count in Counter(node.op_type for node in found).items()
        )
        return f"operator {plain(found[0].op_type)} {found[0].name!r}; in all {counts}"
    small = [
        tensor
        for tensor in tensors(model)
        if _NAMES.get(tensor.data_type) in _SMALL_TYPES and math.prod(tensor.dims) > 1
    ]
    if not small:
        return None
    return (
        f"{called(small[0])} of type {_NAMES[small[0].data_type]} and shape {list(small[0].dims)}; in all "
        f"{len(small)} of such a type"
    )
