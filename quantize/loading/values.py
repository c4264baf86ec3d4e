"""Weights that are no numbers: found when a model is read, by name, rather than as NaN in its scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from quantize.loading.contents import label, messages, nodes
from quantize.loading.sizes import called

_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})

# Where infinity means "no bound", "never the maximum" or "not to be looked at", and computes as it should.
_BOUNDED_BY = frozenset({"Clip", "Max", "Min", "Pad", "Where", "ConstantOfShape", "MaxPool", "Expand"})


class ValuesError(ValueError):
    """A constant holds NaN or infinity; the message begins with its name."""


def check_values(model: onnx.ModelProto) -> None:
    """Looks at every float32, float16 and float64 constant.

    Raises:
        ValuesError: one holds NaN; or infinity, and is read by an operator for which that is no bound.
    """
    readers: dict[str, onnx.NodeProto] = {}
    for node in nodes(model):
        for name in node.input:
            if node.op_type not in _BOUNDED_BY:
                readers.setdefault(name, node)
    for tensor, name, reader in _constants(model, readers):
        values = numpy_helper.to_array(tensor)
        if np.all(np.isfinite(values)):
            continue
        holder = called(tensor) if tensor.name else f"constant {name!r}"
        bad = np.isnan(values)
        if np.any(bad):
            raise ValuesError(_sentence(holder, "NaN", bad, values))
        if reader is not None:
            raise ValuesError(
                f"{_sentence(holder, 'infinity', np.isinf(values), values)}, read by {label(reader)}"
            )


def _constants(
    model: onnx.ModelProto, readers: dict[str, onnx.NodeProto]
) -> Iterator[tuple[onnx.TensorProto, str, onnx.NodeProto | None]]:
    """Every float constant, the name it is read under, and an operator that reads it as a number."""
    for found in messages(model):
        if isinstance(found, onnx.GraphProto):
            for tensor in found.initializer:
                if tensor.data_type in _FLOATS:
                    yield tensor, tensor.name, readers.get(tensor.name)
        elif isinstance(found, onnx.NodeProto):
            name = next(iter(found.output), "")
            for attribute in found.attribute:
                if attribute.HasField("t") and attribute.t.data_type in _FLOATS:
                    yield attribute.t, name, readers.get(name)


def _sentence(holder: str, what: str, bad: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> str:
    return f"{holder} holds {what} in {np.count_nonzero(bad)} of {values.size} places"
