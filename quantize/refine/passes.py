"""The passes over one draft, each judged on the selection images and taken back where it does harm.

Harm beyond the noise of those images, that is: each pass is sound by itself, and taking one back for a
difference that is chance cost more than it saved (MobileNetV2, one split: equalization and biases taken back
for 1 % and 12 %, KL 0.0137 on the evaluation images). The refined model as a whole is compared without such
slack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from quantize.metrics import divergences
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
from quantize.refine.report import PassReport, Status
from quantize.refine.variants import Outcome
from quantize.refine.weights import WeightCache, refine_weights, rounded_weights

Floats = npt.NDArray[np.float32]

# What one pass made: the draft, and what it changed in a few words; or no draft, and why it does not apply.
_Made = tuple[Draft | None, str]


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
        learnt: drafts, and what they make of the calibration images, as far as passes have found that out.
    """

    network: Network
    observations: Observations
    images: Sequence[Floats]
    channels: Sequence[Channels]
    judge: Judge
    options: RefineOptions
    threads: int
    cache: WeightCache
    learnt: list[tuple[Draft, Floats]] = field(default_factory=list)


def run_passes(material: Material, draft: Draft, *, exponent: float = 0.0) -> Outcome:
    """Equalizes, rounds, corrects and scales a draft.

    Args:
        material: what the passes work with.
        draft: with scales, without integers.
        exponent: see `equalize`.

    Returns:
        The draft after the last pass that helped, its scores, and a report of each pass.
    """
    options = material.options
    chain: tuple[tuple[str, bool, Callable[[Material, Draft], _Made]], ...] = (
        ("equalize", options.equalize, partial(_equalize, exponent=exponent)),
        ("weights", options.weights, _weights),
        ("biases", options.biases, _biases),
    )
    state = _State(material, rounded_weights(material.network, draft))
    for name, wanted, work in chain:
        state.judged(name, *(work(material, state.draft) if wanted else _SWITCHED_OFF))
    learnt = _learnt_scores(material, state.draft)
    gain, words = _gain(material, state.draft, learnt) if options.gain else (None, _SWITCHED_OFF[1])
    if gain is None:
        state.judged("gain", None, words)
    elif state.judged("gain", gain.draft, words):
        # A softmax behind the scores does not pass a factor on.
        known = not material.network.probabilities
        learnt = learnt / np.float32(gain.factor) if known else _learnt_scores(material, state.draft)
    state.exact("layout", *(_layout(material, state.draft) if options.layout else _SWITCHED_OFF))
    return Outcome(state.draft, state.score, tuple(state.reports), _divergences(material, learnt))


_SWITCHED_OFF = (None, "switched off")


class _State:
    """A draft on its way through the passes, its score, and what became of each pass."""

    def __init__(self, material: Material, draft: Draft) -> None:
        self._judge = material.judge
        self.draft, self.score = draft, material.judge(draft)
        self.reports: list[PassReport] = []

    def judged(self, name: str, made: Draft | None, words: str) -> bool:
        """Keeps what a pass made unless it does harm; whether it was kept."""
        if made is None:
            self._note(name, "skipped", words, self.score)
            return False
        before, after = self.score, self._judge(made)
        kept = not before.beats(after) or ties(after.divergences, before.divergences)
        self._note(name, "applied" if kept else "taken back", words, after)
        if kept:
            self.draft, self.score = made, after
        return kept

    def exact(self, name: str, made: Draft | None, words: str) -> None:
        """Keeps what a pass made that changes no number, so that there is nothing to judge."""
        self._note(name, "skipped" if made is None else "applied", words, self.score)
        self.draft = self.draft if made is None else made

    def _note(self, name: str, status: Status, words: str, after: Score) -> None:
        self.reports.append(PassReport(name, status, words, self.score, after))


def _equalize(material: Material, draft: Draft, *, exponent: float) -> _Made:
    chosen = [c for c in material.channels if c.free or exponent > 0.0]
    made = equalize(draft, chosen, material.observations, exponent=exponent)
    if not made.factors:
        return None, "no tensor has weights on both sides that could take factors"
    words = f"{len(made.factors)} tensors"
    if exponent > 0.0:
        words += f", towards dense operators with exponent {exponent:g}"
    return rounded_weights(material.network, made), words


def _weights(material: Material, draft: Draft) -> _Made:
    made = refine_weights(
        material.network, draft, material.observations, threads=material.threads, cache=material.cache
    )
    changed = sum(
        not np.array_equal(new.weights, draft.parameters[name].weights)
        for name, new in made.parameters.items()
    )
    return made, f"{changed} operators rounded anew"


def _biases(material: Material, draft: Draft) -> _Made:
    names = corrected_operators(material.network, draft)
    if not names:
        return None, "no operator before the scores has a bias"
    made = refine_biases(
        material.network, draft, material.observations, material.images, threads=material.threads
    )
    if made.scores is not None:
        material.learnt.append((made.draft, made.scores))
    return made.draft, f"{len(names)} operators corrected"


@dataclass(frozen=True)
class _Gain:
    """A draft whose scores were divided by a factor."""

    draft: Draft
    factor: float


def _gain(material: Material, draft: Draft, learnt: Floats) -> tuple[_Gain | None, str]:
    """As the other passes; `learnt` is what the draft makes of the calibration images."""
    network = material.network
    name = scoring_operator(network, draft)
    if name is None:
        return None, "the scores are not proportional to what one integer operator makes"
    gain = gain_of(learnt, material.observations.scores, probabilities=network.probabilities)
    if not is_plausible(gain):
        return None, f"the scores are {gain:.3g} times those of fp32, which no scale should hide"
    made = refine_gain(draft, name, network.weighted[name][0].output, gain)
    return _Gain(made, gain), f"divided by {gain:.4f}"


def _learnt_scores(material: Material, draft: Draft) -> Floats:
    """What a draft makes of the calibration images, [images, classes]."""
    for known, found in material.learnt:
        if known is draft:
            return found
    network = material.network
    model = write_qdq(network.model, network.inventory, draft.plan(), network.target)
    return scores(model, material.images, threads=material.threads, config_entries=network.session_entries)


def _divergences(material: Material, learnt: Floats) -> npt.NDArray[np.float64]:
    """Of a draft from fp32 on each calibration image, [images]."""
    probabilities, reference = material.network.probabilities, material.observations.scores
    return divergences(reference, learnt, probabilities=probabilities, model="int8 model")


def _layout(material: Material, draft: Draft) -> _Made:
    made = pad_stem(material.network, draft)
    if made is None:
        return None, "no convolution of three channels reads the image"
    return made, f"{', '.join(made.padding)} padded to four input channels"
