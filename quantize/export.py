"""Spells a QDQ model with integer operators, the QOperator format: same scales, zero points and integers.

Every float operator between `DequantizeLinear` and `QuantizeLinear` becomes the operator that ONNX Runtime
fuses the same pattern into, so that both files run the same kernels on the same numbers. Patterns without an
integer operator keep their Q/DQ pairs, as ONNX Runtime keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import helper

from quantize.graph import GraphIndex, tensors_read, without_dead_nodes
from quantize.target import MOVEMENT_OPERATORS

# ONNX Runtime's own operator domain; version 1 holds all that is used here
# (onnxruntime/docs/ContribOperators.md).
CONTRIB_DOMAIN = "com.microsoft"
_CONTRIB_VERSION = 1


@dataclass(frozen=True)
class _Quantized:
    """An 8-bit or int32 tensor with the names of its scale and zero point."""

    tensor: str
    scale: str
    zero_point: str

    @property
    def names(self) -> list[str]:
        return [self.tensor, self.scale, self.zero_point]


def to_qoperator(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the QOperator spelling of a QDQ model; the argument is left alone."""
    return _Converter(model).convert()


@dataclass
class _Converter:
    model: onnx.ModelProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    fused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.index = GraphIndex(self.model.graph)
        self.spellings: Mapping[str, Callable[..., onnx.NodeProto | None]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "Add": self._binary,
            "Mul": self._binary,
            "GlobalAveragePool": self._unary,
            "AveragePool": self._unary,
            "Sigmoid": self._unary,
            "LeakyRelu": self._unary,
            "Concat": self._concat,
        } | dict.fromkeys(MOVEMENT_OPERATORS, self._move)

    def convert(self) -> onnx.ModelProto:
        for node in self.model.graph.node:
            spell = self.spellings.get(node.op_type)
            replacement = spell(node, self._result(node)) if spell is not None else None
            self.nodes.append(node if replacement is None else replacement)
        return self._assemble()

    def _assemble(self) -> onnx.ModelProto:
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        alive = [n for n in self.nodes if n.op_type != "QuantizeLinear" or n.output[0] not in self.fused]
        kept = without_dead_nodes(alive, self.index.outputs)
        del result.graph.node[:]
        result.graph.node.extend(kept)
        used = {name for node in kept for name in tensors_read(node)} | self.index.outputs
        initializers = [tensor for tensor in self.model.graph.initializer if tensor.name in used]
        del result.graph.initializer[:]
        result.graph.initializer.extend(initializers)
        domains = {entry.domain for entry in result.opset_import}
        if CONTRIB_DOMAIN not in domains and any(node.domain == CONTRIB_DOMAIN for node in kept):
            result.opset_import.append(helper.make_opsetid(CONTRIB_DOMAIN, _CONTRIB_VERSION))
        return result

    def _operand(self, tensor: str) -> _Quantized | None:
        """What a `DequantizeLinear` turned into `tensor`, or None if none did."""
        node = self.index.producer.get(tensor)
        if node is None or node.op_type != "DequantizeLinear" or len(node.input) < 3:
            return None
        return _Quantized(*node.input[:3])

    def _operands(self, names: Sequence[str]) -> list[_Quantized] | None:
        found = [self._operand(name) for name in names]
        return None if any(operand is None for operand in found) else [o for o in found if o is not None]

    def _result(self, node: onnx.NodeProto) -> _Quantized | None:
        """What the `QuantizeLinear` that is the only reader of a node's result makes of it, or None."""
        readers = self.index.readers(node.output[0])
        if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
            return None
        if node.output[0] in self.index.outputs:
            return None
        return _Quantized(readers[0].output[0], *readers[0].input[1:3])

    def _replace(
        self,
        node: onnx.NodeProto,
        op_type: str,
        inputs: Sequence[str],
        result: _Quantized | None,
        domain: str = "",
    ) -> onnx.NodeProto:
        """The integer operator that stands for `node` and, where there is one, for the Q behind it."""
        if result is not None:
            self.fused.add(result.tensor)
        output = node.output[0] if result is None else result.tensor
        replacement = helper.make_node(op_type, inputs, [output], node.name, domain=domain or None)
        replacement.attribute.extend(node.attribute)
        return replacement

    def _conv(self, node: onnx.NodeProto, result: _Quantized | None) -> onnx.NodeProto | None:
        operands = self._operands(node.input)
        if operands is None or result is None:
            return None
        inputs = [*operands[0].names, *operands[1].names, result.scale, result.zero_point]
        return self._replace(node, "QLinearConv", inputs + [o.tensor for o in operands[2:]], result)

    def _gemm(self, node: onnx.NodeProto, result: _Quantized | None) -> onnx.NodeProto | None:
        operands = self._operands(node.input)
        if operands is None:
            return None
        inputs = [*operands[0].names, *operands[1].names]
        inputs += [operands[2].tensor] if len(operands) > 2 else [""]
        inputs += [] if result is None else [result.scale, result.zero_point]
        return self._replace(node, "QGemm", inputs, result, CONTRIB_DOMAIN)

    def _matmul(self, node: onnx.NodeProto, result: _Quantized | None) -> onnx.NodeProto | None:
        operands = self._operands(node.input)
        if operands is None:
            return None
        a, b = operands
        if result is None:
            inputs = [a.tensor, b.tensor, a.scale, b.scale, a.zero_point, b.zero_point]
            return self._replace(node, "MatMulIntegerToFloat", inputs, None, CONTRIB_DOMAIN)
        inputs = [*a.names, *b.names, result.scale, result.zero_point]
        return self._replace(node, "QLinearMatMul", inputs, result)

    def _binary(self, node: onnx.NodeProto, result: _Quantized | None) -> onnx.NodeProto | None:
        operands = self._operands(node.input)
        if operands is None or result is None:
            return None
        inputs = [*operands[0].names, *operands[1].names, result.scale, result.zero_point]
        return self._replace(node, f"QLinear{node.op_type}", inputs, result, CONTRIB_DOMAIN)

    def _unary(self, node: onnx.NodeProto, result: _Quantized | None) -> onnx.NodeProto | None:
        operand = self._operand(node.input[0])
        if operand is None or result is None:
            return None
        inputs = [*operand.names, result.scale, result.zero_point]
        return self._replace(node, f"QLinear{node.op_type}", inputs, result, CONTRIB_DOMAIN)

    def _concat(self, node: onnx.NodeProto, result: _Quantized | None) -> onnx.NodeProto | None:
        operands = self._operands(node.input)
        if operands is None or result is None:
            return None
        inputs = [result.scale, result.zero_point, *(name for operand in operands for name in operand.names)]
        return self._replace(node, "QLinearConcat", inputs, result, CONTRIB_DOMAIN)

    def _move(self, node: onnx.NodeProto, result: _Quantized | None) -> onnx.NodeProto | None:
        """The same operator, on 8-bit data; only where input and output share scale and zero point."""
        operand = self._operand(node.input[0])
        if operand is None or result is None:
            return None
        if (operand.scale, operand.zero_point) != (result.scale, result.zero_point):
            return None
        return self._replace(node, node.op_type, [operand.tensor, *node.input[1:]], result)
