"""What makes a graph one: every tensor is made once, before it is read; functions end.

onnx's checker finds most of it too; here the message says which operator, and what kind of mistake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import onnx

from quantize.loading.contents import label, messages, nodes
from quantize.loading.limits import OPERATOR_LIMIT_COUNT, PROTOBUF_LIMIT_BYTES

_FunctionKey = tuple[str, str]

# Operators with a graph inside that is run once at most, or once for each row of a tensor. A Loop runs as
# long as its own graph wants to, and nothing interrupts it.
_BRANCHES = frozenset({"If", "Scan", "SequenceMap"})

# Functions that call functions; nobody writes them deeper, and each level is a Python call here.
_CALL_LIMIT_DEPTH = 100


class StructureError(ValueError):
    """The model is no graph that could be run."""


def check_structure(model: onnx.ModelProto) -> None:
    """Checks the main graph, its branches and loops, and the model's functions.

    Raises:
        StructureError: a tensor is made twice, or never, or only after it is read; operators read each other
            in a circle; functions call each other in a circle, or are more operators than any classifier has,
            or more than 2 GiB, once they are written out; a Loop, which may never end; weights are kept
            sparse.
    """
    _check_functions(model)
    for node in nodes(model):
        inside = any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute)
        if inside and node.op_type not in _BRANCHES:
            raise StructureError(
                f"{label(node)} repeats the graph inside it, which may never end; export the model with "
                "its loops written out"
            )
    if any(isinstance(found, onnx.SparseTensorProto) for found in messages(model)):
        raise StructureError("keeps weights as sparse tensors, which is not supported; export them dense")
    _check_graph(model.graph, ())


def _check_graph(graph: onnx.GraphProto, around: tuple[set[str], ...]) -> None:
    """`around`: for each graph around a branch or loop, the tensors that are there by then."""
    inputs = [value.name for value in graph.input]
    constants = [tensor.name for tensor in graph.initializer]
    _no_name_twice("input", inputs)
    _no_name_twice("initializer", constants)
    known = {*inputs, *constants}
    scopes = (known, *around)
    makers = _makers(graph, {*inputs, *constants})
    for node in graph.node:
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                raise StructureError(_why_unknown(name, node, makers))
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _check_graph(inner, scopes)
        known.update(name for name in node.output if name)
    for value in graph.output:
        if not any(value.name in scope for scope in scopes):
            raise StructureError(f"output {value.name!r} is made by no operator; export the model again")


def _makers(graph: onnx.GraphProto, given: set[str]) -> dict[str, onnx.NodeProto]:
    made: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for name in node.output:
            if not name:
                continue
            if name in made:
                raise StructureError(
                    f"tensor {name!r} is made twice, by {label(made[name])} and {label(node)}; export the "
                    "model again"
                )
            if name in given:
                raise StructureError(
                    f"{label(node)} makes {name!r}, which is an input or initializer already; export the "
                    "model again"
                )
            made[name] = node
    return made


def _no_name_twice(what: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise StructureError(f"has two {what}s of the name {twice[0]!r}; export the model again")


def _why_unknown(name: str, reader: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> str:
    """A tensor that is read before it is there is made by nobody, or later, or by way of its own reader."""
    maker = makers.get(name)
    if maker is None:
        return f"{label(reader)} reads {name!r}, which nothing makes; export the model again"
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in reached or current not in makers:
            continue
        reached.add(current)
        waiting.extend(makers[current].input)
    if any(output in reached for output in reader.output):
        return f"is cyclic: {label(reader)} reads {name!r}, made of its own output; export the model again"
    return (
        f"{label(reader)} comes before {label(maker)}, whose {name!r} it reads; operators must be sorted, "
        "export the model again"
    )


def _check_functions(model: onnx.ModelProto) -> None:
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[_FunctionKey, tuple[int, int]] = {}

    def written_out(
        message: onnx.GraphProto | onnx.FunctionProto, callers: tuple[_FunctionKey, ...]
    ) -> tuple[int, int]:
        """Operators and bytes of a graph once its calls are replaced by what they call."""
        count, size_bytes = 0, sum(node.ByteSize() for node in message.node)
        for node in nodes(message):
            key = (node.domain, node.op_type)
            inner_count, inner_bytes = called(key, callers) if key in functions else (1, 0)
            count, size_bytes = count + inner_count, size_bytes + inner_bytes
            if count > OPERATOR_LIMIT_COUNT:
                raise StructureError(
                    f"has more than {OPERATOR_LIMIT_COUNT} operators, which no image classifier needs"
                )
            if size_bytes > PROTOBUF_LIMIT_BYTES:
                raise StructureError(
                    "takes more than 2 GiB once its functions are written out; export it without functions"
                )
        return count, size_bytes

    def called(key: _FunctionKey, callers: tuple[_FunctionKey, ...]) -> tuple[int, int]:
        if key in callers or len(callers) >= _CALL_LIMIT_DEPTH:
            raise StructureError(f"function {key[1]!r} calls itself, at least by way of others, without end")
        if key not in sizes:
            sizes[key] = written_out(functions[key], (*callers, key))
        return sizes[key]

    written_out(model.graph, ())
    for key in functions:
        called(key, ())
