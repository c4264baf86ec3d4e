"""What a deployment's int8 kernels can do: bits per kind of weight, and which operators have a kernel.

Features come from the target and never from the machine that makes the model, so that the artefact is the
same wherever it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

# Weighted operators: they multiply an activation with constant weights.
WEIGHTED_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})

# Operators for which ONNX Runtime's CPU provider has an integer kernel, as its QDQ selectors register them
# (onnxruntime/core/optimizer/qdq_transformer/selectors_actions/qdq_selector_action_transformer.cc).
_ARITHMETIC = frozenset({"Add", "Mul", "GlobalAveragePool", "AveragePool", "Concat", "Sigmoid", "LeakyRelu"})

# They move 8-bit values without looking at them: input and output share one scale and zero point.
MOVEMENT_OPERATORS = frozenset({"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})


@dataclass(frozen=True)
class Target:
    """One deployment.

    Attributes:
        name: how the command line and the metadata call it.
        dense_weight_bits: bits of signed weights in operators that sum over input channels.
        depthwise_weight_bits: bits of signed weights in depthwise convolutions.
        integer_operators: operator types that have an integer kernel.
        pair_saturation: whether dense products are added in neighbouring pairs in int16, with saturation.
    """

    name: str
    dense_weight_bits: int
    depthwise_weight_bits: int
    integer_operators: frozenset[str]
    pair_saturation: bool

    def weight_limit(self, *, depthwise: bool) -> int:
        """The largest magnitude of a weight: 64 for 7 bits, 127 for 8.

        Seven bits span [-64, 64]: two neighbouring products of a uint8 activation then stay within
        2 · 255 · 64 = 32,640 <= 32,767, so `VPMADDUBSW` on CPUs without VNNI cannot saturate. Eight bits are
        symmetric, [-127, 127], because -128 has no positive counterpart.
        """
        bits = self.depthwise_weight_bits if depthwise else self.dense_weight_bits
        return 127 if bits == 8 else 1 << (bits - 1)


# Exact on every CPU: 7-bit dense weights cannot saturate in int16; the depthwise kernel widens to int32 and
# takes all 8 bits (measured; see DESIGN "Kernels").
PORTABLE = Target(
    name="portable",
    dense_weight_bits=7,
    depthwise_weight_bits=8,
    integer_operators=WEIGHTED_OPERATORS | _ARITHMETIC | MOVEMENT_OPERATORS,
    pair_saturation=True,
)
