"""One tensor of a model: what it holds, how its integers are read, who makes and reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from quantize.errors import InputError
from quantize.graph import GraphIndex, element_type, tensor_names
from quantize.inspection.quantities import Quantities, quantities_of


@dataclass(frozen=True)
class TensorFacts:
    """One tensor.

    Attributes:
        name: of the tensor.
        constant: whether the file holds its values.
        dtype: of its elements, None where neither the file nor shape inference says.
        shape: as far as it is known.
        quantities: how its integers are read; None for a tensor that is not quantized.
        made_by, read_by: names of operators.
    """

    name: str
    constant: bool
    dtype: str | None
    shape: tuple[int | str, ...] | None
    quantities: Quantities | None
    made_by: str | None
    read_by: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "constant": self.constant,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "quantization": None if self.quantities is None else self.quantities.to_json(),
            "made_by": self.made_by,
            "read_by": list(self.read_by),
        }


def tensor_facts(model: onnx.ModelProto, name: str) -> TensorFacts:
    """Looks a tensor up by its name, or by that of the operator that makes it.

    Raises:
        InputError: the model has neither; the message has the nearest name.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    index = GraphIndex(inferred.graph)
    makers = {node.name: node.output[0] for node in inferred.graph.node if node.name}
    known = tensor_names(inferred.graph) - {""}
    if name not in known and name not in makers:
        from quantize.config.suggest import did_you_mean

        raise InputError(
            f"--tensor {name}: the model has none; {did_you_mean(name, sorted(known | set(makers)))}"
        )
    tensor = name if name in known else makers[name]
    maker = index.producer.get(tensor)
    dtype, shape = _type_and_shape(index, tensor)
    return TensorFacts(
        tensor,
        tensor in index.initializers,
        dtype,
        shape,
        quantities_of(index).get(tensor),
        None if maker is None else maker.name or maker.output[0],
        tuple(node.name or node.output[0] for node in index.readers(tensor)),
    )


def _type_and_shape(index: GraphIndex, name: str) -> tuple[str | None, tuple[int | str, ...] | None]:
    constant = index.initializers.get(name)
    if constant is not None:
        return element_type(constant.data_type), tuple(constant.dims)
    for value in [*index.graph.input, *index.graph.output, *index.graph.value_info]:
        if value.name == name and value.type.tensor_type.elem_type:
            dims: list[Any] = list(value.type.tensor_type.shape.dim)
            shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
            known = value.type.tensor_type.HasField("shape")
            return element_type(value.type.tensor_type.elem_type), shape if known else None
    return None, None
