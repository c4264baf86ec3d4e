"""Measures the ranges of activations, in the fp32 model as it came and in one whose channels were moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from quantize.config import Config
from quantize.data import Data
from quantize.operators import tensors_before_weights
from quantize.ranges import Extremes, RangeTable, collect_extremes, collect_histograms
from quantize.refine import Network
from quantize.refine.centre import find_streams
from quantize.resuming import EXTREMES, HISTOGRAMS
from quantize.scales import scale_maker
from quantize.source import Source
from quantize.stages import Stages
from quantize.work import Work


def measure_ranges(
    config: Config, source: Source, data: Data, stages: Stages, work: Work | None = None
) -> RangeTable:
    """Measures the extremes of every tensor that could be quantized; histograms when a rule asks for them."""
    work = Work.forgotten() if work is None else work
    tensors = list(
        dict.fromkeys(name for operator in source.inventory.quantizable for name in operator.tensors)
    )
    by_channel = _movable(config, source)
    with stages.stage("measure the ranges"):
        extremes = work.done(
            "ranges",
            {"tensors": tensors, "by_channel": by_channel},
            lambda: collect_extremes(
                source.prepared,
                tensors,
                data.calibration,
                threads=config.thread_count,
                by_channel=by_channel,
            ),
            EXTREMES,
        )
        stages.count_images("measure the ranges", len(data.calibration.images))
    if work.left:
        stages.say("note: an earlier run with these settings left finished work; --resume would reuse it")
    return _table(config, source, data, extremes, work=work)


def ranges_of_moved(
    config: Config,
    source: Source,
    data: Data,
    *,
    before: Extremes,
    moves: Mapping[str, npt.NDArray[np.float64]],
    work: Work,
) -> RangeTable:
    """The ranges of a model whose channels were moved, from those that were measured before.

    What only moved need not run again: the extremes of a moved tensor are those of its channels, each moved.
    They are known of the first images; the others are run.

    Args:
        config: the configuration.
        source: the moved model.
        data: the images.
        before: measured before.
        moves: tensor -> how far down each channel was moved.
        work: where what is finished is kept.
    """
    lows, highs = dict(before.lows), dict(before.highs)
    known = min((len(before.channel_lows[tensor]) for tensor in moves), default=0)
    for tensor, move in moves.items():
        lows[tensor] = (before.channel_lows[tensor] - move).min(axis=1).astype(np.float32)
        highs[tensor] = (before.channel_highs[tensor] - move).max(axis=1).astype(np.float32)
    rest = range(known, len(data.calibration.images))
    if moves and rest:
        others = work.done(
            "moved ranges",
            {"tensors": list(moves), "from": known},
            lambda: collect_extremes(
                source.prepared, list(moves), data.calibration.subset(rest), threads=config.thread_count
            ),
            EXTREMES,
        )
        for tensor in moves:
            lows[tensor] = np.concatenate([lows[tensor], others.lows[tensor]])
            highs[tensor] = np.concatenate([highs[tensor], others.highs[tensor]])
    return _table(config, source, data, Extremes(lows, highs), work=work, moved=list(moves))


def _movable(config: Config, source: Source) -> list[str]:
    """The tensors whose channels the refinement may move."""
    if config.refine.effort == "none" or not config.refine.centre:
        return []
    network = Network(source.prepared, source.inventory, config.target)
    return [tensor for stream in find_streams(network) for tensor in stream.parts]


def _table(
    config: Config, source: Source, data: Data, extremes: Extremes, *, work: Work, moved: Sequence[str] = ()
) -> RangeTable:
    tensors = list(extremes.lows)
    return RangeTable(
        extremes,
        lambda: work.done(
            "histograms",
            {"tensors": tensors, "moved": list(moved)},
            lambda: collect_histograms(
                source.prepared, extremes, data.calibration, threads=config.thread_count
            ),
            HISTOGRAMS,
        ),
        scale_maker(config.target),
        frozenset(tensors) - tensors_before_weights(source.prepared.graph),
    )
