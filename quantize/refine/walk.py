"""Runs an integer network piece by piece over a set of images, stopping before each weighted operator.

The pieces are cut out of the very graph that is written, so that they run the kernels that it will run.
Between pieces only the tensors that later ones read are kept, as 8-bit integers wherever they are
quantized.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from quantize.graph import GraphIndex, attribute, tensors_read
from quantize.refine.observe import channel_means
from quantize.refine.pieces import cut_out
from quantize.session import make_session, run

Floats = npt.NDArray[np.float32]
Values = dict[str, npt.NDArray[Any]]

_PROBE = "refine_probe"


class Walk:
    """A walk through a QDQ graph in topological order.

    Args:
        model: a QDQ model with one input; its constants may be changed between two steps.
        images: one array for each image, as the model takes them.
        threads: images under way at once; the results do not depend on it.
        config_entries: of the sessions.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        images: Sequence[Floats],
        *,
        threads: int,
        config_entries: Mapping[str, str],
    ) -> None:
        self._model, self._threads, self._entries = model, threads, config_entries
        self._index = GraphIndex(model.graph)
        self._nodes = {node.name: node for node in model.graph.node}
        self._order = {name: position for position, name in enumerate(self._nodes)}
        self._pairs = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
        pairs = {node.name for node in self._pairs}
        self._read = {name: self._reads(node) for name, node in self._nodes.items() if name not in pairs}
        # Tensor → how many nodes that are not done read it.
        self._readers = Counter(tensor for read in self._read.values() for tensor in set(read))
        self._done: set[str] = set()
        name = model.graph.input[0].name
        self._held: list[Values] = [{name: image} for image in images]

    def means_before(self, node_name: str) -> Floats:
        """Walks up to a weighted operator and tells what it is about to make.

        Args:
            node_name: a Conv, Gemm or MatMul that lies behind all those asked for before.

        Returns:
            [images, channels] float32, the mean over positions of its result before any activation.
        """
        node = self._nodes[node_name]
        made = self._walk(self._not_done(node.input[:1]), _probe(node), _PROBE)
        return np.stack([channel_means(one[0], node.op_type) for one in made])

    def scores(self) -> Floats:
        """Walks to the end: what the network puts out, [images, classes]."""
        output = self._model.graph.output[0].name
        made = self._walk(self._not_done([output]), [], output)
        table: Floats = np.stack([one.reshape(one.shape[0], -1)[0] for one in made])
        return table

    def _walk(
        self, ahead: Sequence[onnx.NodeProto], probe: Sequence[onnx.NodeProto], wanted: str
    ) -> list[npt.NDArray[Any]]:
        """Runs nodes, and drops the tensors that no later node reads; what is wanted of them and a probe."""
        self._readers.subtract(tensor for one in ahead for tensor in set(self._read[one.name]))
        made = {name for one in ahead for name in one.output if name}
        kept = sorted(name for name in made if self._readers[name] > 0)
        piece = self._piece(ahead, probe, [wanted, *kept])
        # Without channels-last layout, which would turn both sides of a piece around for a single operator.
        session = make_session(piece, threads=1, optimization="extended", config_entries=self._entries)
        names = [value.name for value in piece.graph.input]

        def step(held: Values) -> npt.NDArray[Any]:
            feeds = {name: held[name] for name in names}
            result, *values = run(session, [wanted, *kept], feeds, model="int8 model")
            held.update(zip(kept, values, strict=True))
            for name in [name for name in held if self._readers[name] <= 0]:
                del held[name]
            return result

        results = self._each(step)
        self._done.update(one.name for one in ahead)
        return results

    def _carried(self, tensor: str) -> str:
        """The tensor that is kept for `tensor`: a dequantized one is made again from its integers."""
        producer = self._index.producer.get(tensor)
        while producer is not None and producer.op_type == "DequantizeLinear":
            tensor = producer.input[0]
            producer = self._index.producer.get(tensor)
        return tensor

    def _reads(self, node: onnx.NodeProto) -> list[str]:
        carried = (self._carried(name) for name in tensors_read(node))
        return [name for name in carried if name not in self._index.initializers]

    def _not_done(self, tensors: Iterable[str]) -> list[onnx.NodeProto]:
        """What still has to run for some tensors to exist, dequantizing aside, in graph order."""
        wanted: set[str] = set()
        pending = deque(self._carried(name) for name in tensors)
        while pending:
            producer = self._index.producer.get(pending.popleft())
            if producer is not None and producer.name not in self._done | wanted:
                wanted.add(producer.name)
                pending.extend(self._read[producer.name])
        return [self._nodes[name] for name in sorted(wanted, key=self._order.__getitem__)]

    def _piece(
        self, ahead: Sequence[onnx.NodeProto], probe: Sequence[onnx.NodeProto], outputs: Sequence[str]
    ) -> onnx.ModelProto:
        """A model of the nodes ahead and a probe behind them, with what they and others read dequantized."""
        needed = {name for one in (*ahead, *probe) for name in tensors_read(one)} | set(outputs)
        pairs = [node for node in self._pairs if node.output[0] in needed]
        nodes = sorted([*pairs, *ahead], key=lambda one: self._order[one.name])
        return cut_out(self._model, [*nodes, *probe], self._held[0], outputs)

    def _each(self, step: Callable[[Values], Any]) -> list[Any]:
        """Does a step for the images, in their order, a share of them in each thread."""
        if self._threads == 1:
            return [step(held) for held in self._held]
        size = -(-len(self._held) // self._threads)
        shares = [self._held[start : start + size] for start in range(0, len(self._held), size)]
        with ThreadPoolExecutor(max_workers=self._threads, thread_name_prefix="refine") as pool:
            done = pool.map(lambda share: [step(held) for held in share], shares)
            return [result for share in done for result in share]


def _probe(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The operator with its result as the output, a convolution's averaged over its positions.

    Averaging and a pointwise convolution commute, and the average is the smaller one to convolve.
    """
    operator = onnx.NodeProto()
    operator.CopyFrom(node)
    if node.op_type != "Conv":
        operator.output[0] = _PROBE
        return [operator]
    if _is_pointwise(node):
        operator.input[0], operator.output[0] = f"{_PROBE}_mean", _PROBE
        return [helper.make_node("GlobalAveragePool", node.input[:1], [f"{_PROBE}_mean"]), operator]
    operator.output[0] = f"{_PROBE}_raw"
    return [operator, helper.make_node("GlobalAveragePool", [f"{_PROBE}_raw"], [_PROBE])]


def _is_pointwise(node: onnx.NodeProto) -> bool:
    kernel = attribute(node, "kernel_shape", ())
    ones = all(extent == 1 for extent in (*kernel, *attribute(node, "strides", ())))
    return bool(kernel) and ones and not any(attribute(node, "pads", ()))
