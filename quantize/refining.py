"""Sets a refinement up: reads its images, moves channels where that helps, and makes the refiner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quantize.config import Config
from quantize.data import Data
from quantize.measuring import ranges_of_moved
from quantize.nonfinite import Naming, naming_of
from quantize.parallel import in_order
from quantize.ranges import RangeTable
from quantize.ranges.collect import each_alone
from quantize.refine import AUTO, Network, PassReport, RefineOptions, Refiner
from quantize.refine.centre import find_streams, moved, moves_of, rounded
from quantize.refine.given import GIVEN, GivenRanges
from quantize.refine.judge import Judge, Score
from quantize.refine.ranking import ties
from quantize.scales import ActivationScale
from quantize.source import Source
from quantize.stages import Stages
from quantize.work import Work

Floats = npt.NDArray[np.float32]

# So many images teach the passes as much as more would (DESIGN: "200 instead of 100 images: nothing beyond
# the noise"); ranges are measured on all of them. The limit keeps memory flat.
_REFINE_IMAGE_COUNT = 128

# What the moves are judged with while no rule is chosen: absolute extremes, where no value saturates, so that
# it is the steps alone that count. How much may saturate depends on the network, and on the moves: with a
# rule that cuts much off, narrower ranges of the bundled digits networks looked worse, and were 2 to 4 times
# better with the rule that is then chosen.
_NEUTRAL_RULE = "minmax"

_NO_STREAM = "no convolution without an activation is read by others without padding alone"


class Begun(NamedTuple):
    """What the search goes on with.

    Attributes:
        source: the model, with its channels where they are best.
        ranges: measured in it.
        refiner: refines integer models of it; None where nothing is to be refined.
    """

    source: Source
    ranges: RangeTable
    refiner: Refiner | None


def begin_refinement(
    config: Config,
    source: Source,
    data: Data,
    ranges: RangeTable,
    stages: Stages,
    *,
    given: Mapping[str, ActivationScale] | None = None,
    work: Work | None = None,
) -> Begun:
    """The refinement that the configuration asks for; none without images to judge it by.

    Args:
        config: the configuration.
        source: the model as it came.
        data: the images.
        ranges: measured in `source`.
        stages: where to say what is going on.
        given: scales of a model that is refined, one rule more; of tensors that are moved they say nothing.
        work: where what is finished is kept.
    """
    work = Work.forgotten() if work is None else work
    images = _read_images(config, source, data, stages)
    if images is None:
        return Begun(source, ranges, None)
    judge = Judge(_network(config, source), images.judging, threads=config.thread_count, naming=images.naming)
    with stages.stage("centre channels"):
        centred = _centred(config, source, data, ranges, judge=judge, work=work)
    known = None if given is None else {t: scale for t, scale in given.items() if t not in centred.moved}
    refiner = Refiner(
        centred.judge.network,
        centred.ranges if known is None else GivenRanges(centred.ranges, known),
        images.learnt,
        centred.judge,
        _options(config),
        threads=config.thread_count,
        first_rule=None if given is None else GIVEN,
        done=centred.report,
        work=work,
    )
    return Begun(centred.source, centred.ranges, refiner)


@dataclass(frozen=True)
class _Images:
    """One array each, as the model takes them: to learn from and to judge by, and what to call the latter."""

    learnt: Sequence[Floats]
    judging: Sequence[Floats]
    naming: Naming


def _read_images(config: Config, source: Source, data: Data, stages: Stages) -> _Images | None:
    if config.refine.effort == "none":
        return None
    if data.judging is None:
        stages.say("warning: too few images to choose between variants; the model is not refined")
        return None
    with stages.stage("read images to refine on"):
        learnt = list(islice(each_alone(data.calibration, source.prepared), _REFINE_IMAGE_COUNT))
        judging = [image for images, _ in data.judging for image in np.split(images, len(images))]
    return _Images(learnt, judging, naming_of(data.judging))


def _network(config: Config, source: Source) -> Network:
    return Network(source.prepared, source.inventory, config.target, source.signature.probabilities)


def _options(config: Config) -> RefineOptions:
    wanted = config.refine
    return RefineOptions(
        effort=wanted.effort,
        ranges=wanted.ranges,
        scaling=wanted.scaling,
        equalize=wanted.equalize,
        weights=wanted.weights,
        biases=wanted.biases,
        gain=wanted.gain,
        layout=wanted.layout,
        seed=config.seed,
    )


@dataclass(frozen=True)
class _Centred:
    """A model whose channels may have moved, its ranges, what judges it, what was done, to which tensors."""

    source: Source
    ranges: RangeTable
    judge: Judge
    report: PassReport
    moved: frozenset[str] = frozenset()


def _centred(
    config: Config, source: Source, data: Data, ranges: RangeTable, *, judge: Judge, work: Work
) -> _Centred:
    """Moves channels, unless what is rounded in their tensors does more harm then, beyond the noise."""
    if not config.refine.centre:
        return _Centred(source, ranges, judge, _skipped("switched off"))
    streams, extremes = find_streams(judge.network), ranges.extremes
    if not streams:
        return _Centred(source, ranges, judge, _skipped(_NO_STREAM))
    found = [(one, moves_of(one, extremes.channel_lows, extremes.channel_highs)) for one in streams]
    moves = {tensor: move for _, one in found for tensor, move in one.items()}
    model = moved(judge.network, [stream for stream, paying in found if paying], moves) if moves else None
    if model is None:
        return _Centred(source, ranges, judge, _skipped("no range would become narrower"))
    new = replace(source, prepared=model)
    new_ranges = ranges_of_moved(config, new, data, before=extremes, moves=moves, work=work)
    rule = _NEUTRAL_RULE if config.refine.ranges == AUTO else config.refine.ranges

    drafts = [
        rounded(model, {tensor: table.scale(tensor, rule) for tensor in moves})
        for model, table in ((source.prepared, ranges), (new.prepared, new_ranges))
    ]
    before, after = in_order(judge.score, drafts, workers=config.thread_count)
    kept = not before.beats(after) or ties(after.divergences, before.divergences)
    words = f"channels of {len(moves)} tensors moved; scores of fp32 with only these rounded"
    report = PassReport("centre", "applied" if kept else "taken back", words, before, after)
    if not kept:
        return _Centred(source, ranges, judge, report)
    return _Centred(new, new_ranges, judge.of(_network(config, new)), report, frozenset(moves))


def _skipped(why: str) -> PassReport:
    nothing = Score(0.0, 1.0)  # the refinement fills in what the model scores
    return PassReport("centre", "skipped", why, nothing, nothing)
