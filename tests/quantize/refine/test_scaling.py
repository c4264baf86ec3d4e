"""Ranges of single tensors: the climb on made-up divergences, then networks with a known need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quantize.metrics import divergences
from quantize.model import serialize
from quantize.qdq import write_qdq
from quantize.ranges import RangeTable, collect_extremes, collect_histograms
from quantize.refine import AUTO, RefineOptions, Refiner, RefineReport, scaling
from quantize.refine import refiner as refiner_module
from quantize.refine.judge import Judge, scores
from quantize.refine.network import Draft, Network
from quantize.refine.ranges import draft_with
from quantize.refine.scaling import (
    best_multiplier,
    find_multipliers,
    multipliers_in_words,
    scalable,
    scaled,
)
from quantize.refine.tails import Tail, each_tail
from quantize.scales import ActivationScale
from quantize.target import PORTABLE
from tests.quantize.models import CLASSES, EXTENT, Case, FloatArray, Net, make_case, zoo_case

Divergences = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MULTIPLIERS = (1.0, 1.25, 1.6, 2.1, 2.8)


def scale_of(multiplier: float) -> ActivationScale:
    return ActivationScale(multiplier, 0)


def climbed(
    means: Mapping[float, float], *, noise: float = 0.0, ends: float = np.inf, first: int = 8
) -> float:
    """What the climb makes of these mean divergences; ranges end at `ends`."""
    random = np.random.default_rng(8)

    def divergences_of(entry: ActivationScale, of: Indices) -> Divergences:
        return (means[entry.scale] + noise * random.normal(0, 1, 32))[of]

    ways = {m: scale_of(min(m, ends)) for m in MULTIPLIERS if m != 1.0}
    begin = divergences_of(scale_of(1.0), np.arange(first))
    return best_multiplier(scale_of(1.0), ways, divergences_of, begin, 32)


def test_it_climbs_to_the_least() -> None:
    assert climbed({1.0: 9, 1.25: 7, 1.6: 5, 2.1: 3, 2.8: 4}) == 2.1
    assert climbed({1.0: 9, 1.25: 7, 1.6: 5, 2.1: 3, 2.8: 2}) == 2.8


def test_it_stops_where_the_divergence_rises() -> None:
    assert climbed({1.0: 9, 1.25: 7, 1.6: 8, 2.1: 1, 2.8: 1}) == 1.25


def test_the_rules_own_range_stays_where_nothing_is_better() -> None:
    assert climbed({1.0: 5, 1.25: 5, 1.6: 1, 2.1: 1, 2.8: 1}) == 1.0


def test_it_ends_where_the_range_cannot_grow() -> None:
    falling = {m: 9 - m for m in MULTIPLIERS}
    assert climbed(falling, ends=1.6) == 1.6
    assert climbed(falling, ends=1.0) == 1.0


def test_a_gain_within_the_noise_is_none() -> None:
    means = {1.0: 1.0, 1.25: 0.999, 1.6: 2, 2.1: 2, 2.8: 2}
    assert climbed(means) == 1.25
    assert climbed(means, noise=1.0) == 1.0


def test_a_step_that_saturates_less_on_later_images_only_is_measured_on_all() -> None:
    """The first images lose 10 % of nothing much; of the others, one gains a lot."""
    at_one, wider = np.full(32, 0.001), np.full(32, 0.0011)
    at_one[20], wider[20] = 0.5, 0.1
    values = {1.0: at_one, 1.25: wider, 1.6: wider + 1}
    ways = {m: scale_of(m) for m in (1.25, 1.6, 2.1, 2.8)}

    def found(noise: float) -> float:
        # What the first images say is certain without noise among them, and worth nothing with it.
        shaken = {m: v + noise * np.sin(np.arange(32) * m * 7) for m, v in values.items()}
        return best_multiplier(scale_of(1.0), ways, lambda e, of: shaken[e.scale][of], shaken[1.0][:8], 32)

    assert found(noise=0.01) == 1.25
    assert found(noise=0.0) == 1.0


def test_a_harmful_first_step_is_not_measured_on_all_images() -> None:
    asked = []

    def divergences_of(entry: ActivationScale, of: Indices) -> Divergences:
        asked.append((entry.scale, of.tolist()))
        return np.full(32, entry.scale)[of]

    ways = {m: scale_of(m) for m in MULTIPLIERS if m != 1.0}
    assert best_multiplier(scale_of(1.0), ways, divergences_of, np.ones(8), 32) == 1.0
    assert asked == [(1.25, list(range(8)))]


def network_of(case: Case) -> Network:
    return Network(case.prepared, case.inventory, PORTABLE, case.signature.probabilities)


def draft_of(case: Case, rule: str = "quantile") -> Draft:
    chosen = dict.fromkeys(case.operators, True)
    return draft_with(
        network_of(case), chosen, dict.fromkeys(case.ranges.extremes.lows, AUTO), case.ranges, rule
    )


def case_with(net: Net, batch: FloatArray) -> Case:
    """A case whose ranges are measured on images of its own."""
    case = make_case(net.model())
    tensors, batches = list(case.ranges.extremes.lows), [(batch, None)]
    extremes = collect_extremes(case.prepared, tensors, batches, threads=1)
    ranges = RangeTable(extremes, lambda: collect_histograms(case.prepared, extremes, batches, threads=1))
    return replace(case, images=batch, ranges=ranges)


def heavy_images(count: int, seed: int) -> FloatArray:
    """Every third image is 5 times as large as the others."""
    batch = np.random.default_rng(seed).normal(0, 1, (count, 3, EXTENT, EXTENT)).astype(np.float32)
    batch[::3] *= 5
    return batch


@cache
def heavy_tailed() -> Case:
    """Quantiles of the images' extremes cut the large ones off, and with them what tells classes apart."""
    net = Net(seed=21)
    x = net.relu(net.conv("image", 3, 6, bias=False))
    net.head(net.relu(net.conv(x, 6, 6, 1)), 6)
    return case_with(net, heavy_images(48, seed=5))


@cache
def evenly_filled() -> Case:
    """Every image fills the range of the one tensor evenly: wider only costs steps."""
    net = Net(seed=4)
    identity = net.constant(np.eye(3).reshape(3, 3, 1, 1))
    x = net.node("Conv", "image", identity, pads=[0, 0, 0, 0])
    net.gemm(net.node("Flatten", x, axis=1), 3 * EXTENT * EXTENT, CLASSES, output="scores")
    batch = np.random.default_rng(5).uniform(0, 1, (48, 3, EXTENT, EXTENT)).astype(np.float32)
    return case_with(net, batch)


def alone(batch: FloatArray) -> list[FloatArray]:
    return list(batch[:, None])


def multipliers_of(case: Case, *, threads: int = 1) -> dict[str, float]:
    reference = scores(case.prepared, alone(case.images), threads=1)
    return find_multipliers(
        network_of(case), draft_of(case), alone(case.images), reference, left_out=(), threads=threads
    )


def test_a_heavy_tail_gets_a_wider_range_that_is_better_on_fresh_images() -> None:
    case = heavy_tailed()
    found = multipliers_of(case)
    assert found and min(found.values()) > 1.0
    fresh = alone(heavy_images(30, seed=6))
    reference = scores(case.prepared, fresh, threads=1)
    draft = draft_of(case)
    wide = scaled(network_of(case), draft, found)

    def means(tail: Tail) -> list[float]:
        ways = (draft.scales[tail.tensor], wide.scales[tail.tensor])
        return [float(divergences(reference, tail.scores(entry)).mean()) for entry in ways]

    measured = each_tail(case.prepared, list(found), fresh, means, threads=1)
    assert measured.keys() == found.keys()
    assert all(after < before / 2 for before, after in measured.values())


def test_nothing_changes_where_no_multiplier_helps() -> None:
    assert multipliers_of(evenly_filled()) == {}


def test_the_number_of_threads_changes_nothing() -> None:
    assert multipliers_of(heavy_tailed(), threads=2) == multipliers_of(heavy_tailed())


def test_where_tensors_are_large_fewer_images_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    case, counts = heavy_tailed(), []

    def counted(*args: Any, **more: Any) -> dict[str, Any]:
        counts.append(len(args[2]))
        return each_tail(*args, **more)

    monkeypatch.setattr(scaling, "each_tail", counted)
    largest = 4 * 6 * EXTENT * EXTENT  # of a tensor, in bytes
    monkeypatch.setattr(scaling, "_HELD_LIMIT_BYTES", 2 * largest * 20 + 1)
    assert multipliers_of(case) and counts == [16, 20]
    counts.clear()
    monkeypatch.setattr(scaling, "_HELD_LIMIT_BYTES", 0)
    # one image at least, which tells nothing
    assert multipliers_of(case) == {} and counts == [1, 1]


def test_tensors_without_a_range_of_their_own_are_left_alone() -> None:
    case = zoo_case("fire_module")
    found = scalable(network_of(case), draft_of(case))
    (concat,) = (o for o in case.inventory.quantizable if o.op_type == "Concat")
    pools = {node.output[0] for node in case.prepared.graph.node if node.op_type == "MaxPool"}
    assert found and "image" in draft_of(case).scales and pools <= draft_of(case).scales.keys()
    assert not {"image", concat.output, *concat.inputs, *pools} & set(found)


def test_scaling_changes_steps_and_keeps_zero_points() -> None:
    case = heavy_tailed()
    draft = draft_of(case)
    tensor = scalable(network_of(case), draft)[0]
    wide = scaled(network_of(case), draft, {tensor: 1.6, "no such tensor": 2.0})
    before, after = draft.scales[tensor], wide.scales[tensor]
    assert after.scale == pytest.approx(1.6 * before.scale) and after.zero_point == before.zero_point
    assert {name: entry for name, entry in wide.scales.items() if name != tensor} == {
        name: entry for name, entry in draft.scales.items() if name != tensor
    }


def test_a_wider_range_ends_at_the_clip_that_saturation_stands_for() -> None:
    net = Net(seed=2)
    x = net.clip(net.conv("image", 3, 6, bias=False), 0.0, 1.5)
    net.head(net.conv(x, 6, 6, 1), 6)
    case = make_case(net.model())
    draft = draft_of(case)
    (clipped,) = (o.output for o in case.inventory.quantizable if o.activation is not None)
    assert draft.scales[clipped].bounds[1] == pytest.approx(1.5)
    wide = scaled(network_of(case), draft, {clipped: 2.1})
    assert wide.scales[clipped].bounds[1] == pytest.approx(1.5)


def made(case: Case, options: RefineOptions, threads: int = 1) -> Refiner:
    images, network = alone(case.images), network_of(case)
    judge = Judge(network, images[36:], threads=threads)
    return Refiner(network, case.ranges, images[:36], judge, options, threads=threads)


def refined(
    case: Case, *, threads: int = 1, rules: Mapping[str, str] | None = None, **options: Any
) -> tuple[Draft, RefineReport]:
    wanted = RefineOptions(ranges="quantile", **{"scaling": True, **options})
    refiner = made(case, wanted, threads)
    rule_of = dict.fromkeys(case.ranges.extremes.lows, "quantile") | dict(rules or {})
    return refiner.refine(dict.fromkeys(case.operators, True), rule_of)


def status_of(report: RefineReport) -> tuple[str, str]:
    (found,) = (one for one in report.passes if one.name == "scaling")
    return found.status, found.what


def test_the_refiner_takes_wider_ranges_where_they_win() -> None:
    case = heavy_tailed()
    draft, report = refined(case)
    plain, without = refined(case, scaling=False)
    assert status_of(report)[0] == "applied" and " x" in status_of(report)[1]
    assert report.candidates.keys() - without.candidates.keys() == {"quantile, scaled ranges"}
    assert report.after.kl == report.candidates["quantile, scaled ranges"] < without.after.kl
    assert any(draft.scales[name].scale > entry.scale for name, entry in plain.scales.items())
    network, fresh = network_of(case), alone(heavy_images(30, seed=7))
    reference = scores(case.prepared, fresh, threads=1)
    wide, narrow = (
        divergences(
            reference,
            scores(write_qdq(case.prepared, case.inventory, one.plan(), network.target), fresh, threads=1),
        ).mean()
        for one in (draft, plain)
    )
    assert wide < narrow


def test_wider_ranges_that_do_not_win_in_the_end_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        refiner_module,
        "find_multipliers",
        lambda network, draft, *_, **__: {name: 50.0 for name in scalable(network, draft)},
    )
    draft, report = refined(evenly_filled())
    plain, without = refined(evenly_filled(), scaling=False)
    assert status_of(report)[0] == "taken back" and "after all passes" in status_of(report)[1]
    assert report.candidates["quantile, scaled ranges"] > report.after.kl == without.after.kl
    assert draft.scales == plain.scales


@pytest.mark.parametrize(
    ("options", "why"),
    [({"scaling": False}, "switched off"), ({"effort": "fast"}, "only with full effort")],
)
def test_the_pass_says_why_it_did_not_run(options: dict[str, Any], why: str) -> None:
    _, report = refined(heavy_tailed(), **options)
    assert status_of(report) == ("skipped", why)
    assert not any("scaled" in name for name in report.candidates)


def test_without_a_gain_there_is_no_variant() -> None:
    draft, report = refined(evenly_filled())
    plain, _ = refined(evenly_filled(), scaling=False)
    assert status_of(report) == ("skipped", "no tensor gains by another range")
    assert list(report.candidates) == ["quantile"] and draft.scales == plain.scales


def test_a_rule_that_was_given_for_one_tensor_is_kept() -> None:
    case = heavy_tailed()
    network, free = network_of(case), refined(case)[0]
    tensor = max(scalable(network, free), key=lambda name: free.scales[name].scale)
    draft, _ = refined(case, rules={tensor: "median"})
    assert draft.scales[tensor] == case.ranges.scale(tensor, "median")


def test_the_refined_model_is_the_same_with_one_and_two_threads() -> None:
    case = heavy_tailed()
    models = [
        serialize(
            write_qdq(case.prepared, case.inventory, refined(case, threads=threads)[0].plan(), PORTABLE)
        )
        for threads in (1, 2)
    ]
    assert models[0] == models[1]


def test_later_models_keep_what_the_first_one_found() -> None:
    case = heavy_tailed()
    refiner = made(case, RefineOptions(ranges="quantile", scaling=True))
    rule_of = dict.fromkeys(case.ranges.extremes.lows, "quantile")
    first, _ = refiner.refine(dict.fromkeys(case.operators, True), rule_of)
    fewer = dict.fromkeys(case.operators[:1], True)
    second, report = refiner.refine(fewer, rule_of)
    assert status_of(report)[0] == "applied"
    tensor = case.inventory.quantizable[0].output
    assert second.scales[tensor] == first.scales[tensor] != case.ranges.scale(tensor, "quantile")


def test_a_report_names_some_tensors_and_counts_the_rest() -> None:
    assert multipliers_in_words({"a": 1.25, "b": 0.8}) == "a x1.25, b x0.8"
    assert multipliers_in_words({name: 2.1 for name in "abcdefg"}).endswith("e x2.1 and 2 more")
