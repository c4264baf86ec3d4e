"""Runs an integer network piece by piece over a set of images, stopping before each weighted operator.

The pieces are cut out of the very graph that is written, so that they run the kernels that it will run.
Between pieces only the tensors that later ones read are kept, as 8-bit integers wherever they are
quantized.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from quantize.graph import GraphIndex, attribute, tensors_read
from quantize.refine.observe import channel_means
from quantize.session import make_session, run

Floats = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]

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
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._done: set[str] = set()
        name = model.graph.input[0].name
        self._held: list[dict[str, npt.NDArray[Any]]] = [{name: image} for image in images]

    def means_before(self, node_name: str) -> Floats:
        """Walks up to a weighted operator and tells what it is about to make.

        Args:
            node_name: a Conv, Gemm or MatMul that lies behind all those asked for before.

        Returns:
            [images, channels] float32, the mean over positions of its result before any activation.
        """
        (node,) = (node for node in self._model.graph.node if node.name == node_name)
        ahead = self._not_done(node.input[:1])
        kept = self._read_later(ahead)
        piece = self._piece(ahead, node, kept)
        means = self._advance(piece, kept, node.op_type)
        self._done.update(one.name for one in ahead)
        self._forget()
        return means

    def _carried(self, tensor: str) -> str:
        """The tensor that is kept for `tensor`: a dequantized one is made again from its integers."""
        producer = self._index.producer.get(tensor)
        while producer is not None and producer.op_type == "DequantizeLinear":
            tensor = producer.input[0]
            producer = self._index.producer.get(tensor)
        return tensor

    def _reads(self, node: onnx.NodeProto) -> list[str]:
        carried = (self._carried(name) for name in tensors_read(node))
        return [name for name in carried if name not in self._constants]

    def _not_done(self, tensors: Iterable[str]) -> list[onnx.NodeProto]:
        """What still has to run for some tensors to exist, dequantizing aside, in graph order."""
        wanted: set[str] = set()
        pending = deque(self._carried(name) for name in tensors)
        while pending:
            producer = self._index.producer.get(pending.popleft())
            if producer is not None and producer.name not in self._done | wanted:
                wanted.add(producer.name)
                pending.extend(self._reads(producer))
        return [node for node in self._model.graph.node if node.name in wanted]

    def _read_later(self, ahead: Sequence[onnx.NodeProto]) -> list[str]:
        """What these nodes make for nodes that are neither done nor among them."""
        made = {name for node in ahead for name in node.output if name}
        finished = self._done | {node.name for node in ahead}
        later = (
            n for n in self._model.graph.node if n.name not in finished and n.op_type != "DequantizeLinear"
        )
        return sorted({name for node in later for name in self._reads(node)} & made)

    def _piece(
        self, ahead: Sequence[onnx.NodeProto], node: onnx.NodeProto, kept: Sequence[str]
    ) -> onnx.ModelProto:
        """A model of the nodes ahead, and of the weighted operator with its result averaged."""
        probe = _probe(node)
        needed = {name for one in (*ahead, *probe) for name in tensors_read(one)}
        pairs = [
            n for n in self._model.graph.node if n.op_type == "DequantizeLinear" and n.output[0] in needed
        ]
        needed.update(name for one in pairs for name in one.input)
        order = {n.name: position for position, n in enumerate(self._model.graph.node)}
        nodes = sorted([*pairs, *ahead], key=lambda one: order[one.name])
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in self._held[0].items()
            if name in needed
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in (_PROBE, *kept)]
        constants = [tensor for name, tensor in self._constants.items() if name in needed]
        piece = onnx.ModelProto()
        piece.CopyFrom(self._model)
        piece.ClearField("graph")
        piece.graph.CopyFrom(helper.make_graph([*nodes, *probe], "piece", inputs, outputs, constants))
        return piece

    def _advance(self, piece: onnx.ModelProto, kept: Sequence[str], op_type: str) -> Floats:
        session = make_session(piece, threads=1, config_entries=self._entries)
        names = [value.name for value in piece.graph.input]

        def step(held: dict[str, npt.NDArray[Any]]) -> Floats:
            feeds = {name: held[name] for name in names}
            probe, *made = run(session, [_PROBE, *kept], feeds, model="int8 model")
            held.update(zip(kept, made, strict=True))
            return channel_means(probe[0], op_type)

        with ThreadPoolExecutor(max_workers=self._threads, thread_name_prefix="refine") as pool:
            return np.stack(list(pool.map(step, self._held)))

    def _forget(self) -> None:
        """Drops the tensors that no later node reads."""
        later = (
            n for n in self._model.graph.node if n.name not in self._done and n.op_type != "DequantizeLinear"
        )
        needed = {name for node in later for name in self._reads(node)}
        for held in self._held:
            for name in held.keys() - needed:
                del held[name]


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
