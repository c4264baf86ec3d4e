"""How a weighted operator multiplies: its weights as matrices, and its inputs as the vectors they multiply.

Every Conv, Gemm and MatMul with constant weights computes, group by group, `y = W · x + b` with
`W [groups, rows, K]` and one vector `x [groups, K]` for each output position. K runs in packed order (kernel
row, kernel column, input channel of the group), the order in which integer kernels add products up, so that
the products 2i and 2i + 1 are the ones that `VPMADDUBSW` adds in int16 (DESIGN "Kernels").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantize.graph import GraphIndex, attribute

Floats = npt.NDArray[np.float32]

_SPATIAL_RANKS = (1, 2)


@dataclass(frozen=True)
class Geometry:
    """The shape of one weighted operator.

    Attributes:
        op_type: Conv, Gemm or MatMul.
        groups: of a convolution; 1 for the others.
        kernel, strides, dilations: (rows, columns); 1 for matrix products. A one-dimensional convolution is
            one of a single row.
        pads: (top, left, bottom, right); None where the operator's `auto_pad` finds them out.
        upper: with `auto_pad`, whether the odd row goes to the end (SAME_UPPER).
        weight_shape: of the weights as the operator has them.
        transposed: whether a matrix product's weights are [outputs, inputs] (Gemm with transB).
    """

    op_type: str
    groups: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int] | None
    upper: bool
    weight_shape: tuple[int, ...]
    transposed: bool

    @property
    def outputs(self) -> int:
        """Output channels."""
        if self.op_type == "Conv" or self.transposed:
            return self.weight_shape[0]
        return self.weight_shape[1]

    @property
    def inputs(self) -> int:
        """Input channels, of all groups together."""
        if self.op_type == "Conv":
            return self.weight_shape[1] * self.groups
        return self.weight_shape[1 if self.transposed else 0]

    @property
    def depth(self) -> int:
        """K, the products that make one output."""
        return self.inputs // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved alone; its kernels do not add products in pairs."""
        return self.op_type == "Conv" and 1 < self.groups == self.inputs == self.outputs

    def pack(self, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Weights as the operator has them → [groups, rows, K]."""
        if self.op_type != "Conv":
            matrix = weights if self.transposed else weights.T
            return np.ascontiguousarray(matrix)[None]
        outputs, inputs = weights.shape[:2]
        packed = np.moveaxis(weights.reshape(outputs, inputs, -1), 1, 2)
        return np.ascontiguousarray(packed).reshape(self.groups, outputs // self.groups, self.depth)

    def unpack(self, packed: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of `pack`."""
        if self.op_type != "Conv":
            return np.ascontiguousarray(packed[0] if self.transposed else packed[0].T)
        outputs, inputs = self.weight_shape[:2]
        grouped = packed.reshape(outputs, -1, inputs)
        return np.ascontiguousarray(np.moveaxis(grouped, 2, 1)).reshape(self.weight_shape)

    def spread_inputs(self, per_channel: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One number per input channel → one per weight of [groups, 1, K]."""
        by_group = per_channel.reshape(self.groups, 1, 1, -1)
        taps = self.kernel[0] * self.kernel[1]
        return np.broadcast_to(by_group, (self.groups, 1, taps, by_group.shape[-1])).reshape(
            self.groups, 1, self.depth
        )

    def positions(self, shape: tuple[int, ...]) -> int:
        """How many output positions an input [C, ...] (or [..., C] for matrix products) has."""
        if self.op_type != "Conv":
            return int(np.prod(shape[:-1], dtype=np.int64))
        rows, columns = self._output_extents(_two_dimensional(shape[1:]))
        return rows * columns

    def vectors(self, data: Floats, chosen: npt.NDArray[np.int64]) -> Floats:
        """The vectors that the weights multiply at some output positions.

        Args:
            data: one image's input of the operator, without the batch axis; padding is zero.
            chosen: [P] output positions, row by row.

        Returns:
            [P, groups, K] float32.
        """
        if self.op_type != "Conv":
            return data.reshape(-1, data.shape[-1])[chosen][:, None, :]
        channels, extents = data.shape[0], _two_dimensional(data.shape[1:])
        data = data.reshape(channels, *extents)
        top, left = self._pads(extents)[:2]
        _, width = self._output_extents(extents)
        rows, columns = np.divmod(chosen, width)
        row_taps = np.arange(self.kernel[0]) * self.dilations[0] - top
        column_taps = np.arange(self.kernel[1]) * self.dilations[1] - left
        at_rows = (rows * self.strides[0])[:, None, None] + row_taps[None, :, None]
        at_columns = (columns * self.strides[1])[:, None, None] + column_taps[None, None, :]
        # Only what is chosen is looked at: adding the padding would copy all of the input.
        inside = (at_rows >= 0) & (at_rows < extents[0]) & (at_columns >= 0) & (at_columns < extents[1])
        taken = data[:, at_rows.clip(0, extents[0] - 1), at_columns.clip(0, extents[1] - 1)]
        taken[:, ~inside] = 0.0  # [C, P, rows, columns]
        by_group = taken.reshape(self.groups, channels // self.groups, len(chosen), -1)
        return np.ascontiguousarray(by_group.transpose(2, 0, 3, 1)).reshape(
            len(chosen), self.groups, self.depth
        )

    def _pads(self, extents: tuple[int, int]) -> tuple[int, int, int, int]:
        if self.pads is not None:
            return self.pads
        both = []
        for axis in (0, 1):
            outputs = -(-extents[axis] // self.strides[axis])
            reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            total = max((outputs - 1) * self.strides[axis] + reach - extents[axis], 0)
            both.append((total // 2, total - total // 2) if self.upper else (total - total // 2, total // 2))
        return both[0][0], both[1][0], both[0][1], both[1][1]

    def _output_extents(self, extents: tuple[int, int]) -> tuple[int, int]:
        pads = self._pads(extents)
        reach = [(self.kernel[axis] - 1) * self.dilations[axis] + 1 for axis in (0, 1)]
        rows, columns = (
            (extents[axis] + pads[axis] + pads[axis + 2] - reach[axis]) // self.strides[axis] + 1
            for axis in (0, 1)
        )
        return rows, columns


def geometry_of(node: onnx.NodeProto, index: GraphIndex) -> Geometry | None:
    """The geometry of a weighted operator; None for one that has none (a convolution over volumes)."""
    shape = tuple(index.initializers[node.input[1]].dims)
    if node.op_type != "Conv":
        one = (1, 1)
        transposed = bool(attribute(node, "transB", 0))
        return Geometry(node.op_type, 1, one, one, one, (0, 0, 0, 0), True, shape, transposed)
    rank = len(shape) - 2
    if rank not in _SPATIAL_RANKS:
        return None
    pads = tuple(attribute(node, "pads", (0,) * (2 * rank)))
    auto = attribute(node, "auto_pad", b"NOTSET").decode()
    if auto == "VALID":
        pads = (0,) * (2 * rank)
    return Geometry(
        op_type="Conv",
        groups=int(attribute(node, "group", 1)),
        kernel=_two_dimensional(shape[2:], 1),
        strides=_two_dimensional(tuple(attribute(node, "strides", (1,) * rank)), 1),
        dilations=_two_dimensional(tuple(attribute(node, "dilations", (1,) * rank)), 1),
        pads=None if auto.startswith("SAME") else _four(pads),
        upper=auto != "SAME_LOWER",
        weight_shape=shape,
        transposed=False,
    )


def _two_dimensional(values: tuple[int, ...], missing: int = 1) -> tuple[int, int]:
    return (missing, values[0]) if len(values) == 1 else (values[0], values[1])


def _four(pads: tuple[int, ...]) -> tuple[int, int, int, int]:
    return (0, pads[0], 0, pads[1]) if len(pads) == 2 else (pads[0], pads[1], pads[2], pads[3])
