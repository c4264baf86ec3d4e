"""Pass: channels that share a scale brought to the same size, exactly and at no cost.

A tensor with one scale for all channels wastes its 256 steps on channels that are small. Where whatever makes
the tensor and whatever reads it has weights of its own, channel c can be multiplied by `k_c` in the weights
(and bias) that make it, and divided by it in those that read it: the network computes the same, and each
channel uses the whole range. Relu keeps positive factors as they are. A Clip at 6 does so too, although 6
becomes `6 · k_c`, because the integers saturate first: channel c ends at `r_c = hi / k_c <= hi <= 6`.

After Nagel et al. 2019, arXiv 1906.04721, section 4.1, made exact for ReLU6. Depthwise readers scale each
channel alone, which costs nothing, so they get the whole factor; readers that add channels up would take over
in their weights what the activations are relieved of (Xiao et al. 2022, arXiv 2211.10438, equation 4), so
theirs has an exponent below 1, tried as an alternative and kept only where it helps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from quantize.operators import Operator
from quantize.refine.network import Draft, Network
from quantize.refine.observe import Observations
from quantize.scales import steady

# A channel may reach so far beyond the largest value seen of it: other images have larger ones. Of 1.0, 1.2
# and 1.4, the middle one is best on MobileNetV2 (KL 0.0073, 0.0060, 0.0066).
_MARGIN = 1.2

# No channel is made larger than this many times. One that was small on the calibration images need not be so
# on others, where it then saturates; and its error of rounding is down to a ninth already, of next to
# nothing. With 50, one image of massive activations was worth as much as all others together: KL of one rule
# on MobileNetV2, means of four splits with 100 and with 32 calibration images, 0.0067 and 0.0132; with 4,
# 0.0063 and 0.0067; with 3, 0.0062 and (two splits) 0.0065; with 2, 0.0063 and (two splits) 0.0061.
_LARGEST_FACTOR = 3.0


@dataclass(frozen=True)
class Channels:
    """A tensor whose channels can be scaled.

    Attributes:
        tensor: its name.
        free: whether every reader is a depthwise convolution.
    """

    tensor: str
    free: bool


def find_channels(network: Network, operators: Mapping[str, bool]) -> list[Channels]:
    """The tensors that can be equalized when these operators are integers, in graph order.

    Such a tensor is made by a convolution with one weight scale per channel, is read by convolutions only,
    and nothing outside of the graph sees it.
    """
    chosen = {name: o for name, o in network.inventory.by_name().items() if name in operators}
    found = []
    for name, operator in chosen.items():
        if not _can_scale(network, name, operator.op_type) or not operators[name] or operator.float_output:
            continue
        if _clip_stays(network, operator):
            continue
        readers = network.index.readers(operator.output)
        hidden = operator.output not in network.index.outputs | network.index.read_inside
        if readers and hidden and all(_can_unscale(network, reader, chosen) for reader in readers):
            free = all(network.weighted[reader.name][1].depthwise for reader in readers)
            found.append(Channels(operator.output, free))
    return found


def _clip_stays(network: Network, operator: Operator) -> bool:
    """Whether a Clip that no saturation stands for would cut scaled channels at the wrong place."""
    if operator.activation is None or not network.target.signed_activations:
        return False
    return network.nodes[operator.activation].op_type == "Clip"


def _can_scale(network: Network, name: str, op_type: str) -> bool:
    return op_type == "Conv" and name in network.weighted


def _can_unscale(network: Network, reader: onnx.NodeProto, chosen: Mapping[str, Operator]) -> bool:
    return reader.name in chosen and _can_scale(network, reader.name, reader.op_type)


def equalize(
    draft: Draft, channels: Sequence[Channels], observations: Observations, *, exponent: float = 0.0
) -> Draft:
    """Gives tensors their factors.

    `k_c = min(max(hi / (1.2 · max_c), 1)^a, 3)` with the exponent a, and the same for the lower end where the
    tensor goes below zero, with `max_c` the largest value of channel c on the calibration images.

    Args:
        draft: with final scales, and without integers for weights.
        channels: from `find_channels`.
        observations: with extremes by channel of all their tensors.
        exponent: of the factors that dense operators divide out again, in [0, 1].
    """
    factors = dict(draft.factors)
    for entry in channels:
        power = 1.0 if entry.free else exponent
        if power > 0.0:
            room = np.clip(_room(draft, entry.tensor, observations) ** power, 1.0, _LARGEST_FACTOR)
            # Steady, because the extremes of channels are not the same to the last bit on every CPU.
            factors[entry.tensor] = np.array([steady(float(k)) for k in room], dtype=np.float32)
    return draft.but(factors=factors)


def _room(draft: Draft, tensor: str, observations: Observations) -> npt.NDArray[np.float64]:
    """How many times larger each channel could be within its tensor's range; float64 [channels]."""
    low, high = draft.scales[tensor].bounds
    lows = np.minimum(observations.lows[tensor].min(axis=0), 0.0).astype(np.float64)
    highs = np.maximum(observations.highs[tensor].max(axis=0), 0.0).astype(np.float64)
    room = np.full(lows.shape, np.inf)
    for end, seen in ((low, lows), (high, highs)):
        reaches = seen != 0.0
        room[reaches] = np.minimum(room[reaches], end / (_MARGIN * seen[reaches]))
    return room
