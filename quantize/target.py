"""What a deployment's int8 kernels can do: operators, bits, signs, formats; written down with their sources.

Features come from the target and never from the machine that makes the model, so that the artefact is the
same wherever it is made.

Sources:
    [ort] ONNX Runtime, onnxruntime/core/optimizer/qdq_transformer/selectors_actions/
        qdq_selector_action_transformer.cc: the operators its CPU provider fuses into integer kernels.
    [mlas] ONNX Runtime, onnxruntime/core/mlas/lib: int8 kernels. On x86 without VNNI, `VPMADDUBSW` adds
        neighbouring products in int16 with saturation; scripts/probe_saturation.py measures which ones.
        VNNI (`VPDPBUSD`) and ARM (`UDOT`, `SMLAL`) add in int32.
    [trt] NVIDIA, "Working with Quantized Types" and "Explicit Quantization", TensorRT documentation:
        symmetric INT8 only (zero point 0), activations in [-128, 127] and weights in [-127, 127], one scale
        per tensor for activations and per output channel for weights, pre-quantized weights behind an
        `IDequantizeLayer`; bias in float.
    [qnn] ONNX Runtime, onnxruntime/quantization/execution_providers/qnn/quant_config.py: uint8 asymmetric
        activations, int32 bias, one scale per channel for Conv only ("QNN does not support per-channel
        MatMul"), removable activations removed, every operator in QDQ, ranges of 0.0001 at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["QOperator", "QDQ"]
TargetName = Literal["portable", "avx2", "vnni", "arm", "tensorrt", "qnn"]

# Weighted operators: they multiply an activation with constant weights.
WEIGHTED_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})

# Operators for which ONNX Runtime's CPU provider has an integer kernel [ort].
_ARITHMETIC = frozenset({"Add", "Mul", "GlobalAveragePool", "AveragePool", "Concat", "Sigmoid", "LeakyRelu"})

# They move 8-bit values without looking at them: input and output share one scale and zero point.
MOVEMENT_OPERATORS = frozenset({"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})

_ON_CPU = WEIGHTED_OPERATORS | _ARITHMETIC | MOVEMENT_OPERATORS


@dataclass(frozen=True)
class Target:
    """One deployment.

    Attributes:
        name: how the command line and the metadata call it.
        dense_weight_bits: bits of signed weights in operators that sum over input channels, where nothing
            finer than bits decides (see `pair_saturation`).
        depthwise_weight_bits: bits of signed weights in depthwise convolutions.
        integer_operators: operator types that have an integer kernel.
        pair_saturation: whether dense products are added in pairs in int16 with saturation, so that weights
            must be 7 bits, or 8 bits with bounded pairs (`quantize.portability`).
        signed_activations: int8, symmetric, zero point 0; otherwise uint8, asymmetric.
        formats: the formats that it reads.
        integer_bias: whether the bias is int32 with a DequantizeLinear; otherwise it stays float.
        per_channel_operators: weighted operators that take one scale per output channel.
        float_scores: whether everything behind the last weighted operator stays float, for resolution.
        least_range: the smallest range of an activation; 0 for any.
        on_cpu: whether ONNX Runtime's CPU provider, which measures accuracy and speed here, is the
            deployment; elsewhere it only emulates it.
        exact: whether its logits have to be those of exact integer arithmetic, bit for bit.
    """

    name: TargetName
    dense_weight_bits: int
    depthwise_weight_bits: int = 8
    integer_operators: frozenset[str] = _ON_CPU
    pair_saturation: bool = False
    signed_activations: bool = False
    formats: tuple[Format, ...] = ("QOperator", "QDQ")
    integer_bias: bool = True
    per_channel_operators: frozenset[str] = WEIGHTED_OPERATORS
    float_scores: bool = True
    least_range: float = 0.0
    on_cpu: bool = True
    exact: bool = False

    def weight_limit(self, *, depthwise: bool) -> int:
        """The largest magnitude of a weight: 64 for 7 bits, 127 for 8.

        Seven bits span [-64, 64]: two neighbouring products of a uint8 activation then stay within
        2 · 255 · 64 = 32,640 <= 32,767, so `VPMADDUBSW` on CPUs without VNNI cannot saturate. Eight bits are
        symmetric, [-127, 127], because -128 has no positive counterpart.
        """
        bits = self.depthwise_weight_bits if depthwise else self.dense_weight_bits
        return 127 if bits == 8 else 1 << (bits - 1)


# Exact on every CPU [mlas]: 7-bit dense weights (or bounded pairs) cannot saturate in int16; the depthwise
# kernel widens to int32 and takes all 8 bits. The other CPUs' kernels compute the same integers.
PORTABLE = Target("portable", dense_weight_bits=7, pair_saturation=True, exact=True)

# The same kernels as the weakest of "every CPU" [mlas]; kept apart so that a model says what it was made for.
AVX2 = Target("avx2", dense_weight_bits=7, pair_saturation=True, exact=True)

# Products are added in int32 [mlas], so that dense weights have all 8 bits. On other x86 CPUs they saturate.
VNNI = Target("vnni", dense_weight_bits=8)

# The same for ARM [mlas]; uint8 activations, because asymmetric ones use all levels behind a ReLU.
ARM = Target("arm", dense_weight_bits=8)

# [trt] Q/DQ around what has INT8 kernels there; element-wise activations stay float and are fused.
TENSORRT = Target(
    "tensorrt",
    dense_weight_bits=8,
    integer_operators=WEIGHTED_OPERATORS
    | {"Add", "GlobalAveragePool", "AveragePool", "Concat"}
    | MOVEMENT_OPERATORS,
    signed_activations=True,
    formats=("QDQ",),
    integer_bias=False,
    on_cpu=False,
)

# [qnn] Whatever is not between Q and DQ falls back to the CPU, so the scores are quantized too.
QNN = Target(
    "qnn",
    dense_weight_bits=8,
    integer_operators=_ON_CPU | {"HardSigmoid", "HardSwish", "Softmax", "Tanh", "Sub", "Div"},
    formats=("QDQ",),
    per_channel_operators=frozenset({"Conv"}),
    float_scores=False,
    least_range=1e-4,
    on_cpu=False,
)

TARGETS: dict[TargetName, Target] = {
    target.name: target for target in (PORTABLE, AVX2, VNNI, ARM, TENSORRT, QNN)
}
