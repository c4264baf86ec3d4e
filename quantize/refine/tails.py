"""Runs the fp32 network behind one tensor at a time, with that tensor alone rounded to uint8.

The network is walked through once, in graph order. Before each tensor only what later operators read is
kept, so that a measurement runs no more than the tail of the network. The scale is an input of the tail: one
session serves all scales that are tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper

from quantize.graph import GraphIndex, tensor_names, tensors_read, unique_name, without_dead_nodes
from quantize.refine.pieces import Held, cut_out
from quantize.scales import ActivationScale
from quantize.session import make_session, run

Floats = npt.NDArray[np.float32]
Result = TypeVar("Result")

# ONNX Runtime would otherwise make integers of what stands behind a DequantizeLinear, weights included.
_FLOAT_ONLY = {"session.disable_quant_qdq": "1"}


@dataclass(frozen=True)
class Tail:
    """The network behind one tensor, and what goes into it.

    Attributes:
        tensor: the tensor that is rounded.
        model: from the float tensors at the cut, a scale and a zero point to the scores.
        scale, zero_point: names of those two inputs.
        held: for each image, the values of the other inputs.
    """

    tensor: str
    model: onnx.ModelProto
    scale: str
    zero_point: str
    held: Sequence[Held]

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return make_session(self.model, threads=1, config_entries=_FLOAT_ONLY)

    def scores(self, entry: ActivationScale, of: Iterable[int] | None = None) -> Floats:
        """What the network makes of each image with the tensor rounded so, [images, classes] float32.

        Args:
            entry: how the tensor is rounded.
            of: numbers of the images; all by default.
        """
        # Symmetric int8 is uint8 with zero point 128: the lower bound says it for both.
        outputs = [self.model.graph.output[0].name]
        how: Held = {
            self.scale: np.asarray(entry.scale, dtype=np.float32),
            self.zero_point: np.asarray(round(-entry.bounds[0] / entry.scale), dtype=np.uint8),
        }
        rows = []
        for held in self.held if of is None else [self.held[number] for number in of]:
            (found,) = run(self._session, outputs, {**held, **how}, model="fp32 model")
            rows.append(found.reshape(found.shape[0], -1)[0])
        table: Floats = np.stack(rows).astype(np.float32)
        return table


def each_tail(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: Sequence[Floats],
    work: Callable[[Tail], Result],
    *,
    threads: int,
) -> dict[str, Result]:
    """Does some work on the tail behind each tensor; those of a few tensors exist at once.

    Args:
        model: a prepared fp32 model with one input.
        tensors: float tensors that nodes of its main graph make.
        images: one array for each, as the model takes them.
        work: runs in a thread of its own; every session has a single thread, so that results do not depend
            on how many work at once.
        threads: how many.

    Returns:
        Tensor → what `work` returned. A tensor that the scores do not depend on is left out.
    """
    under_way: deque[tuple[str, Future[Result]]] = deque()
    results: dict[str, Result] = {}
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="tails") as pool:
        for tail in _tails(model, set(tensors), images):
            under_way.append((tail.tensor, pool.submit(work, tail)))
            del tail  # what it holds is freed as soon as its work is done
            if len(under_way) > threads:
                name, future = under_way.popleft()
                results[name] = future.result()
        results.update((name, future.result()) for name, future in under_way)
    return results


def _tails(model: onnx.ModelProto, tensors: set[str], images: Sequence[Floats]) -> Iterator[Tail]:
    index = GraphIndex(model.graph)
    nodes = list(model.graph.node)
    held: list[Held] = [{model.graph.input[0].name: image} for image in images]
    passed = 0
    for position, node in enumerate(nodes):
        made = sorted(tensors.intersection(node.output))
        if not made:
            continue
        later = without_dead_nodes(nodes[position + 1 :], index.outputs)
        read = {name for one in later for name in tensors_read(one)}
        if read.isdisjoint(made):
            continue
        held = _advanced(model, nodes[passed : position + 1], held, read)
        passed = position + 1
        for tensor in made:
            if tensor in read:
                yield _tail(model, tensor, later, held)


def _advanced(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], held: Sequence[Held], read: set[str]
) -> list[Held]:
    """Runs the next nodes, and forgets what nobody reads behind them."""
    made = {name for node in nodes for name in node.output}
    kept = sorted(made & read)
    piece = cut_out(model, nodes, held[0], kept)
    session = make_session(piece, threads=1)
    names = [value.name for value in piece.graph.input]
    result: list[Held] = []
    for one in held:
        values = run(session, kept, {name: one[name] for name in names}, model="fp32 model")
        left = {name: value for name, value in one.items() if name in read}
        result.append(left | dict(zip(kept, values, strict=True)))
    return result


def _tail(model: onnx.ModelProto, tensor: str, nodes: Sequence[onnx.NodeProto], held: Sequence[Held]) -> Tail:
    taken = tensor_names(model.graph)
    scale, zero_point, integers, rounded = (
        unique_name(f"{tensor}_{what}", taken) for what in ("scale", "zero_point", "integers", "rounded")
    )
    pair = [
        helper.make_node("QuantizeLinear", [tensor, scale, zero_point], [integers]),
        helper.make_node("DequantizeLinear", [integers, scale, zero_point], [rounded]),
    ]
    how: Held = {scale: np.zeros((), dtype=np.float32), zero_point: np.zeros((), dtype=np.uint8)}
    output = model.graph.output[0].name
    behind = cut_out(
        model, [*pair, *(_reading(node, tensor, rounded) for node in nodes)], {**held[0], **how}, [output]
    )
    names = {value.name for value in behind.graph.input}
    return Tail(
        tensor, behind, scale, zero_point, [{n: v for n, v in one.items() if n in names} for one in held]
    )


def _reading(node: onnx.NodeProto, tensor: str, instead: str) -> onnx.NodeProto:
    if tensor not in node.input:
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for position, name in enumerate(copy.input):
        if name == tensor:
            copy.input[position] = instead
    return copy
