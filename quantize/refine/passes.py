"""The passes over one draft, each judged on the selection images and taken back where it does harm.

Harm beyond the noise of those images, that is: each pass is sound by itself, and taking one back for a
difference that is chance cost more than it saved (MobileNetV2, one split: equalization and biases taken back
for 1 % and 12 %, KL 0.0137 on the evaluation images). The refined model as a whole is compared without such
slack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    with _State(material, rounded_weights(material.network, draft)) as state:
        for name, wanted, work in chain:
            made = work(material, state.draft) if wanted else _SWITCHED_OFF
            if not state.settled() and wanted:  # the pass before was taken back, and this one began with it
                made = work(material, state.draft)
            state.offer(name, *made)
        state.settled()
        learnt = _learnt_scores(material, state.draft)
        gain, words = _gain(material, state.draft, learnt) if options.gain else (None, _SWITCHED_OFF[1])
        if gain is None:
            state.offer("gain", None, words)
        else:
            # A softmax behind the scores does not pass a factor on.
            passed_on = None if material.network.probabilities else gain.factor
            state.offer("gain", gain.draft, words, divisor=passed_on)
            if state.settled():
                known = passed_on is not None
                learnt = learnt / np.float32(gain.factor) if known else _learnt_scores(material, state.draft)
        state.exact("layout", *(_layout(material, state.draft) if options.layout else _SWITCHED_OFF))
    return Outcome(state.draft, state.score, tuple(state.reports), _divergences(material, learnt))


_SWITCHED_OFF = (None, "switched off")


@dataclass(frozen=True)
class _Offered:
    """What a pass made, while it is judged."""

    name: str
    words: str
    made: Draft
    score: Callable[[], Score]


class _State:
    """A draft on its way through the passes, its score, and what became of each pass.

    What a pass made is judged beside the work of the next one, which begins with it: it is seldom taken back.
    The context ends that work.

    Attributes:
        draft: what the next pass begins with; the last one offered, until that is settled.
        score: of the last draft that was kept.
        reports: of the passes that are settled.
    """

    def __init__(self, material: Material, draft: Draft) -> None:
        self._judge, self._beside = material.judge, material.threads > 1
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge-pass")
        self.draft, self.score = draft, material.judge(draft)
        self._kept = draft
        self._offered: _Offered | None = None
        self.reports: list[PassReport] = []

    def __enter__(self) -> _State:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def offer(self, name: str, made: Draft | None, words: str, *, divisor: float | None = None) -> None:
        """Has judged what a pass made; nothing else may be on offer.

        Args:
            name: of the pass.
            made: the draft; None where the pass does not apply.
            words: what it changed, or why it does not apply.
            divisor: what its scores are those of the draft before divided by, where that is all it does.
        """
        if made is None:
            self._note(name, "skipped", words, self.score)
            return
        if divisor is not None:
            score: Callable[[], Score] = partial(self._judge.divided, self.score, divisor)
        elif self._beside:
            score = self._pool.submit(self._judge, made).result
        else:
            score = partial(self._judge, made)
        self.draft, self._offered = made, _Offered(name, words, made, score)

    def settled(self) -> bool:
        """Keeps what is on offer unless it does harm; whether `draft` stays what it was."""
        if self._offered is None:
            return True
        offered, self._offered = self._offered, None
        before, after = self.score, offered.score()
        kept = not before.beats(after) or ties(after.divergences, before.divergences)
        self._note(offered.name, "applied" if kept else "taken back", offered.words, after)
        if kept:
            self._kept, self.score = offered.made, after
        self.draft = self._kept
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
