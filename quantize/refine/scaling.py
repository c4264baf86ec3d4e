"""Pass: ranges of single tensors made wider, by what each does to the scores alone.

A rule gives all tensors their ranges by one recipe, which misses those with other tails than the rest. Here
one tensor at a time is rounded to uint8 and everything else is left in float, so that a range is judged free
of the rounding noise of the whole network, in which a free choice on the integer model would only find what
suits the images it looks at (DESIGN, "The refinement recipe"). For a tensor with range [lo, hi] the range is
`m · [lo, hi]` with the m of least mean KL(fp32 || that) over calibration images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quantize.metrics import divergences
from quantize.placement import place
from quantize.qdq import settled_scales
from quantize.ranges.collect import each_image
from quantize.refine.network import Draft, Network
from quantize.refine.ranges import joined
from quantize.refine.ranking import exceeds_error
from quantize.refine.tails import Tail, each_tail
from quantize.scales import ActivationScale

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# What is tried, step by step while the divergence falls. A step of 1/4 changes the error of rounding by 1.9
# dB, about as finely as the divergence can tell. Narrower ranges are not tried: 0.8 looks better for some
# tensors alone, but made the refined MobileNetV2 worse on each of three splits (KL 0.0057 became 0.0076,
# 0.0083 became 0.0116, 0.0066 became 0.0070).
MULTIPLIERS = (1.25, 1.6, 2.1, 2.8)

# Tensors are looked at on few images first, and those that make up less than this share of all divergence
# are left alone: there is nothing to be gained.
_LEAST_SHARE = 0.015
_FIRST_IMAGES = 16
_IMAGES = 64

# A range is changed only for more than this many standard errors of what it gains. The tensors' divergences
# on images not used for the choice, added up over MobileNetV2 (mean of 200 splits of 100 images): 0.00487
# unscaled; scaled on 64 images 0.0040, 0.0038 and 0.0039 with 0, 1/2 and 1; on 32 images 0.0040 with 1/2.
_LEAST_GAIN_ERRORS = 0.5

# A first step that is worse by more than so many standard errors on the first images is harmful.
_SURE_ERRORS = 2.0

# Images that are measured before it is asked whether the others matter, and how far a sum may be wrong.
_ASKED_AT_ONCE = 4
_SUM_MARGIN = 1 + 1e-9

# A report names so many of the tensors.
_LISTED = 5

# Of all that is held of the images at a cut; fewer images of a network with larger tensors.
_HELD_LIMIT_BYTES = 320 << 20


def find_multipliers(
    network: Network,
    draft: Draft,
    images: Sequence[Floats],
    reference: Floats,
    *,
    left_out: Collection[str],
    threads: int,
) -> dict[str, float]:
    """Looks for better ranges.

    Args:
        network: the fp32 network.
        draft: with scales; nothing else of it counts.
        images: calibration images, one array each, as the model takes them.
        reference: what fp32 makes of them, [images, classes].
        left_out: tensors whose ranges are not those of their fp32 values.
        threads: tensors under way at once; the result does not depend on it.

    Returns:
        Tensor → the factor of its range, where it is not 1. Wider ranges never reach beyond the Relu or Clip
        that saturation stands for.
    """
    tensors = [tensor for tensor in scalable(network, draft) if tensor not in left_out]
    if not tensors:
        return {}
    chosen = _spread(len(images), _image_limit(network, tensors, images[0]))
    # Any first ones of them are spread over all of them, as these are over the calibration images.
    few = _spread(len(chosen), _FIRST_IMAGES)
    chosen = chosen[[*few, *sorted(set(range(len(chosen))) - set(few.tolist()))]]
    few = chosen[: len(few)]
    ladder = {m: scaled(network, draft, dict.fromkeys(tensors, m)).scales for m in MULTIPLIERS}

    def first(tail: Tail) -> Doubles:
        return _divergences(network, reference[few], tail.scores(draft.scales[tail.tensor]))

    at_first = each_tail(network.model, tensors, [images[i] for i in few], first, threads=threads)
    shares = {tensor: float(found.mean()) for tensor, found in at_first.items()}
    least = _LEAST_SHARE * sum(shares.values())
    relevant = [tensor for tensor, share in shares.items() if share > least]

    def climb(tail: Tail) -> float:
        ways = {m: scales[tail.tensor] for m, scales in ladder.items()}

        def divergences_of(entry: ActivationScale, of: Indices) -> Doubles:
            return _divergences(network, reference[chosen[of]], tail.scores(entry, of))

        return best_multiplier(
            draft.scales[tail.tensor], ways, divergences_of, at_first[tail.tensor], len(chosen)
        )

    found = each_tail(network.model, relevant, [images[i] for i in chosen], climb, threads=threads)
    return {tensor: multiplier for tensor, multiplier in found.items() if multiplier != 1.0}


def scaled(network: Network, draft: Draft, multipliers: Mapping[str, float]) -> Draft:
    """The draft with the ranges of some tensors multiplied; those that it does not quantize are ignored."""
    scales = dict(draft.scales)
    for tensor, multiplier in multipliers.items():
        if tensor in scales:
            entry = scales[tensor]
            step = max(np.float32(entry.scale * multiplier), np.finfo(np.float32).tiny)
            scales[tensor] = replace(entry, scale=float(step))
    return draft.but(scales=settled_scales(network.model, network.inventory, draft.operators, scales))


def scalable(network: Network, draft: Draft) -> list[str]:
    """The tensors with a range of their own, in the order of the draft: neither the image, nor tied."""
    chosen = {name: o for name, o in network.inventory.by_name().items() if name in draft.operators}
    tied = set(place(network.model.graph, network.inventory, chosen).tied)
    tied.update(tensor for group in joined(network, draft.operators) for tensor in group)
    return sorted(
        tensor for tensor in draft.scales if tensor in network.index.producer and tensor not in tied
    )


def best_multiplier(
    entry: ActivationScale,
    ways: Mapping[float, ActivationScale],
    divergences_of: Callable[[ActivationScale, Indices], Doubles],
    at_first: Doubles,
    images: int,
) -> float:
    """Climbs to wider ranges while the mean divergence falls.

    Args:
        entry: the scale that the rule gave, with multiplier 1.
        ways: multiplier → scale; one that is no other than the one before ends the climb.
        divergences_of: the divergence of each of some images, given by numbers, [images] float64.
        at_first: the divergence with multiplier 1 of each of the first images. Where the first step is
            surely harmful on them, no other is tried: the error of such a tensor is one of rounding, not of
            saturation. (Saturation shows on few images only: where the first step helps, the others are
            measured on all.)
        images: how many there are.

    Returns:
        The best multiplier; 1 where what it gains may be chance.
    """
    begin, rest = np.arange(len(at_first)), np.arange(len(at_first), images)
    at_one: Doubles | None = None
    least = at_first
    best, last = 1.0, entry
    for multiplier in MULTIPLIERS:
        way = ways[multiplier]
        if way == last:
            break
        known = np.empty(0)
        if at_one is None:
            known = divergences_of(way, begin)
            if exceeds_error(known - at_first, _SURE_ERRORS):
                break
            if len(rest):
                least = np.concatenate([at_first, divergences_of(entry, rest)])
            at_one = least
        found = _if_less(way, divergences_of, known, least)
        if found is None:
            break
        best, least, last = multiplier, found, way
    if at_one is None or not exceeds_error(at_one - least, _LEAST_GAIN_ERRORS):
        return 1.0
    return best


def _if_less(
    entry: ActivationScale,
    divergences_of: Callable[[ActivationScale, Indices], Doubles],
    known: Doubles,
    least: Doubles,
) -> Doubles | None:
    """The divergence of each image if their mean is less than that of `least`, else None.

    No divergence is below zero: as soon as some exceed all of `least` together, the others do not matter.
    Those where `least` is largest come first, because few images make up most of it.

    Args:
        entry: a scale.
        divergences_of: as for `best_multiplier`.
        known: the divergences of the first images.
        least: the divergences of all of them with the best scale so far.
    """
    found = np.zeros(len(least))
    found[: len(known)] = known
    order = np.argsort(-least[len(known) :], kind="stable") + len(known)
    limit = least.sum() * _SUM_MARGIN
    for start in range(0, len(order), _ASKED_AT_ONCE):
        if found.sum() > limit:
            return None
        of = order[start : start + _ASKED_AT_ONCE]
        found[of] = divergences_of(entry, of)
    return found if found.mean() < least.mean() else None


def multipliers_in_words(multipliers: Mapping[str, float]) -> str:
    """Which ranges were changed, and how."""
    listed = [f"{tensor} x{multiplier:g}" for tensor, multiplier in list(multipliers.items())[:_LISTED]]
    more = len(multipliers) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "")


def _divergences(network: Network, reference: Floats, found: Floats) -> Doubles:
    return divergences(reference, found, probabilities=network.probabilities, model="fp32 model")


def _spread(available: int, wanted: int) -> Indices:
    """Indices of `wanted` of the images, evenly: calibration sets may be sorted by class."""
    count = min(available, wanted)
    return np.arange(count, dtype=np.int64) * available // count


def _image_limit(network: Network, tensors: Sequence[str], image: Floats) -> int:
    """How many images may be held; twice the largest tensor stands for what lives at a cut."""

    def largest(values: Mapping[str, Floats], _: int) -> int:
        return max(value.nbytes for value in values.values())

    (size_bytes,) = each_image(network.model, tensors, [(image[:1], None)], largest, threads=1)
    return int(np.clip(_HELD_LIMIT_BYTES // (2 * size_bytes), 1, _IMAGES))
