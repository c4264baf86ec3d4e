"""Pass: input channels where integer kernels want them.

Integer convolutions read their input in groups of four channels. An image has three, which takes the first
convolution out of the fast path: padded to four, with zero points and weights of zero, it computes the same
integers in two thirds of the time (0.54 against 0.36 ms on AVX2; DESIGN, "Where int8 time goes"), of a whole
network 3 to 7 % less here (batch 1, one thread).
"""

from __future__ import annotations

from quantize.refine.network import Draft, Network

_IMAGE_CHANNELS = 3
_FULL_GROUP = 4


def pad_stem(network: Network, draft: Draft) -> Draft | None:
    """The draft with its stem padded; None where there is none of three channels with an integer kernel here.

    Only a convolution that reads the image itself: elsewhere the copy would cost as much as it saves.
    """
    if not network.target.on_cpu:
        return None
    image = network.model.graph.input[0].name
    padding = {
        name: _FULL_GROUP - _IMAGE_CHANNELS
        for name, (operator, geometry) in network.weighted.items()
        if name in draft.operators
        and operator.inputs[0] == image
        and geometry.op_type == "Conv"
        and geometry.groups == 1
        and geometry.inputs == _IMAGE_CHANNELS
        and geometry.kernel != (1, 1)
    }
    return draft.but(padding=padding) if padding else None
