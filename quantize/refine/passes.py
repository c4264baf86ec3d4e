"""The passes over one draft, each judged on the selection images and taken back where it does harm.

Harm beyond the noise of those images, that is: each pass is sound by itself, and taking one back for a
difference that is chance cost more than it saved (MobileNetV2, one split: equalization and biases taken back
for 1 % and 12 %, KL 0.0137 on the evaluation images). The refined model as a whole is compared without such
slack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantize.qdq import write_qdq
from quantize.refine.biases import corrected_operators, refine_biases
from quantize.refine.equalize import Channels, equalize
from quantize.refine.gain import gain_of, is_plausible, refine_gain, scoring_operator
from quantize.refine.judge import Judge, Score, scores
from quantize.refine.layout import pad_stem
from quantize.refine.network import Draft, Network
from quantize.refine.observe import Observations
from quantize.refine.options import RefineOptions
from quantize.refine.ranking import ties
from quantize.refine.report import PassReport
from quantize.refine.weights import WeightCache, refine_weights, rounded_weights

Floats = npt.NDArray[np.float32]

# What one pass made: the draft, and what it changed in a few words; or no draft, and why it does not apply.
_Outcome = tuple[Draft | None, str]


@dataclass(frozen=True)
class Material:
    """What the passes work with.

    Attributes:
        network: the fp32 network.
        observations: of it, on `images`.
        images: the calibration images, one array each, as the model takes them.
        channels: what can be equalized.
        judge: scores drafts on the selection images.
        options: which passes are wanted.
        threads: how many may work at once.
        cache: integers of operators that were rounded before.
    """

    network: Network
    observations: Observations
    images: Sequence[Floats]
    channels: Sequence[Channels]
    judge: Judge
    options: RefineOptions
    threads: int
    cache: WeightCache


def run_passes(
    material: Material, draft: Draft, *, exponent: float = 0.0
) -> tuple[Draft, Score, tuple[PassReport, ...]]:
    """Equalizes, rounds, corrects and scales a draft.

    Args:
        material: what the passes work with.
        draft: with scales, without integers.
        exponent: see `equalize`.

    Returns:
        The draft after the last pass that helped, its score, and a report of each pass.
    """
    chain: tuple[tuple[str, bool, Callable[[Material, Draft], _Outcome]], ...] = (
        ("equalize", material.options.equalize, lambda m, d: _equalize(m, d, exponent)),
        ("weights", material.options.weights, _weights),
        ("biases", material.options.biases, _biases),
        ("gain", material.options.gain, _gain),
        ("layout", material.options.layout, _layout),
    )
    draft = rounded_weights(material.network, draft)
    score = material.judge(draft)
    reports = []
    for name, wanted, work in chain:
        made, what = work(material, draft) if wanted else (None, "switched off")
        if made is None:
            reports.append(PassReport(name, "skipped", what, score, score))
            continue
        after = material.judge(made)
        kept = not score.beats(after) or ties(after.divergences, score.divergences)
        reports.append(PassReport(name, "applied" if kept else "taken back", what, score, after))
        if kept:
            draft, score = made, after
    return draft, score, tuple(reports)


def _equalize(material: Material, draft: Draft, exponent: float) -> _Outcome:
    chosen = [c for c in material.channels if c.free or exponent > 0.0]
    made = equalize(draft, chosen, material.observations, exponent=exponent)
    if not made.factors:
        return None, "no tensor has weights on both sides that could take factors"
    words = f"{len(made.factors)} tensors"
    if exponent > 0.0:
        words += f", towards dense operators with exponent {exponent:g}"
    return rounded_weights(material.network, made), words


def _weights(material: Material, draft: Draft) -> _Outcome:
    made = refine_weights(
        material.network, draft, material.observations, threads=material.threads, cache=material.cache
    )
    changed = sum(
        not np.array_equal(new.weights, draft.parameters[name].weights)
        for name, new in made.parameters.items()
    )
    return made, f"{changed} operators rounded anew"


def _biases(material: Material, draft: Draft) -> _Outcome:
    names = corrected_operators(material.network, draft)
    if not names:
        return None, "no operator before the scores has a bias"
    made = refine_biases(
        material.network, draft, material.observations, material.images, threads=material.threads
    )
    return made, f"{len(names)} operators corrected"


def _gain(material: Material, draft: Draft) -> _Outcome:
    network = material.network
    name = scoring_operator(network, draft)
    if name is None:
        return None, "the scores are not proportional to what one integer operator makes"
    model = write_qdq(network.model, network.inventory, draft.plan(), network.target)
    found = scores(model, material.images, threads=material.threads, config_entries=network.session_entries)
    gain = gain_of(found, material.observations.scores, probabilities=network.probabilities)
    if not is_plausible(gain):
        return None, f"the scores are {gain:.3g} times those of fp32, which no scale should hide"
    return refine_gain(draft, name, network.weighted[name][0].output, gain), f"divided by {gain:.4f}"


def _layout(material: Material, draft: Draft) -> _Outcome:
    made = pad_stem(material.network, draft)
    if made is None:
        return None, "no convolution of three channels reads the image"
    return made, f"{', '.join(made.padding)} padded to four input channels"
