"""The refinement as a whole: on every kind of network, taken back where it harms, the same on any machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantize.export import to_qoperator
from quantize.metrics import divergences
from quantize.portability import check_pairs
from quantize.qdq import write_qdq
from quantize.refine import passes
from quantize.refine.judge import Judge, Score
from quantize.refine.ranges import rules_for
from quantize.refine.variants import Outcome
from quantize.session import make_session, outputs
from quantize.target import TARGETS
from tests.quantize.models import ZOO, Case, zoo_case
from tests.quantize.refine.conftest import MakeRefiner, as_model_takes_them, network_of, rules_of


def refined(make_refiner: MakeRefiner, case: Case, **options: Any) -> Any:
    refiner = make_refiner(case, **options)
    operators = dict.fromkeys(case.operators, True)
    draft, report = refiner.refine(operators, rules_of(case))
    return draft, report, write_qdq(case.prepared, case.inventory, draft.plan(), case.target)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_kind_of_network(name: str, make_refiner: MakeRefiner, tmp_path: Any) -> None:
    case = zoo_case(name)
    _, report, model = refined(make_refiner, case, effort="fast")
    assert not report.before.beats(report.after)
    assert report.rule in report.rules
    passes_run = [one.name for one in report.passes]
    assert passes_run == ["ranges", "scaling", "equalize", "weights", "biases", "gain", "layout"]
    # Both spellings are still one model, and its weights fit every CPU.
    twin = to_qoperator(model)
    left, right = (outputs(make_session(m, threads=1), case.images) for m in (model, twin))
    np.testing.assert_array_equal(left, right)
    for spelled in (model, twin):
        assert check_pairs(spelled).unbounded == ()


@pytest.mark.parametrize("target", ["vnni", "tensorrt", "qnn"])
@pytest.mark.parametrize("name", ["inverted_residual", "fire_module", "squeeze_and_excite", "matmul_head"])
def test_every_target(name: str, target: Any, make_refiner: MakeRefiner) -> None:
    case = zoo_case(name, target=TARGETS[target])
    _, report, model = refined(make_refiner, case, effort="fast")
    assert not report.before.beats(report.after)
    make_session(model, threads=1)


def test_full_effort_is_at_least_as_close_as_fast(make_refiner: MakeRefiner) -> None:
    case = zoo_case("inverted_residual")
    _, fast, _ = refined(make_refiner, case, effort="fast")
    _, full, _ = refined(make_refiner, case, effort="full")
    assert full.after.kl <= fast.after.kl
    assert len(full.candidates) > len(fast.candidates) == 1
    assert full.after.kl < 0.7 * full.before.kl  # it is for something


@pytest.mark.parametrize("name", ["inverted_residual", "relu_chain_with_softmax"])
def test_the_divergence_on_calibration_images_is_that_of_the_model_that_is_written(
    name: str, make_refiner: MakeRefiner
) -> None:
    """It is derived from scores that the gain's pass needed anyway; float32 holds seven digits of them."""
    case = zoo_case(name)
    _, report, model = refined(make_refiner, case, effort="fast")
    status = {one.name: one.status for one in report.passes}
    assert status["gain"] == "applied"
    images = as_model_takes_them(case, case.images)
    wanted, found = (
        np.stack([outputs(make_session(m, threads=1), image)[0] for image in images])
        for m in (case.prepared, model)
    )
    expected = divergences(wanted, found, probabilities=case.signature.probabilities, model="int8 model")
    (learnt,) = report.candidates_learnt.values()
    assert learnt == pytest.approx(expected.mean(), rel=1e-4)


def test_threads_change_no_bit(make_refiner: MakeRefiner) -> None:
    case = zoo_case("inverted_residual")
    one, two = (
        refined(make_refiner, case, effort="full", threads=threads)[2].SerializeToString(deterministic=True)
        for threads in (1, 2)
    )
    assert one == two


def test_what_harms_is_taken_back(make_refiner: MakeRefiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass in turn is replaced by one that wrecks the model or, the gain, divides its scores by 50."""
    case = zoo_case("inverted_residual")
    true_passes = {name: getattr(passes, name) for name in ("_equalize", "_weights", "_biases", "_gain")}

    def wrecked(material: Any, draft: Any, *_: Any, **__: Any) -> Any:
        scales = {name: type(s)(s.scale / 50, s.zero_point) for name, s in draft.scales.items()}
        made = draft.but(scales=scales)
        return (passes._Gain(made, 50.0) if name == "_gain" else made), "wrecked"

    for name in true_passes:
        with monkeypatch.context() as patch:
            patch.setattr(passes, name, wrecked)
            _, report, _ = refined(make_refiner, case, effort="fast")
        (entry,) = (one for one in report.passes if one.what == "wrecked")
        assert entry.status == "taken back"
        assert entry.before.beats(entry.after)
        assert not report.before.beats(report.after)


def test_what_follows_a_pass_that_is_taken_back_begins_before_it(
    make_refiner: MakeRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next pass works ahead on what is then taken back: nothing of that may be left in the model."""
    case = zoo_case("inverted_residual")

    def wrecked(material: Any, draft: Any, **_: Any) -> Any:
        scales = {name: type(s)(s.scale / 50, s.zero_point) for name, s in draft.scales.items()}
        return draft.but(scales=scales), "wrecked"

    *_, without = refined(make_refiner, case, effort="fast", equalize=False)
    monkeypatch.setattr(passes, "_equalize", wrecked)
    for threads in (1, 2):
        _, report, model = refined(make_refiner, case, effort="fast", threads=threads)
        assert [one.status for one in report.passes if one.what == "wrecked"] == ["taken back"]
        assert model == without


@pytest.mark.parametrize("name", ["inverted_residual", "relu_chain_with_softmax"])
def test_the_score_of_the_gain_is_that_of_the_model(name: str, make_refiner: MakeRefiner) -> None:
    """Scores are divided instead of run again where that is all the pass does; float32 holds seven digits."""
    case = zoo_case(name)
    refiner = make_refiner(case, effort="fast", layout=False)
    draft, report = refiner.refine(dict.fromkeys(case.operators, True), rules_of(case))
    (gain,) = (one for one in report.passes if one.name == "gain")
    assert gain.status == "applied"
    selection = np.random.default_rng(77).normal(0, 1, (6, *case.images.shape[1:])).astype(np.float32)
    network = network_of(case)
    measured = Judge(network, [image[None] for image in selection], threads=1)(draft)
    assert gain.after.kl == pytest.approx(measured.kl, rel=1e-4)
    assert gain.after.agreement == measured.agreement


def test_where_all_of_it_harms_the_model_stays_as_it_was(
    make_refiner: MakeRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = zoo_case("inverted_residual")
    refiner = make_refiner(case, effort="fast")
    monkeypatch.setattr(
        "quantize.refine.refiner.run_passes",
        lambda m, draft, **_: Outcome(draft, Score(9.0, 0.0), (), np.ones(1)),
    )
    draft, report = refiner.refine(dict.fromkeys(case.operators, True), rules_of(case))
    assert report.after == report.before
    assert {one.name: one.status for one in report.passes} == {"ranges": "taken back", "scaling": "skipped"}
    plain = write_qdq(case.prepared, case.inventory, draft.plan(), case.target)
    first, *_ = rules_for(case.ranges, case.ranges.extremes.lows, full=False)
    expected = write_qdq(case.prepared, case.inventory, case.plan(rule=first), case.target)
    left, right = (outputs(make_session(m, threads=1), case.images) for m in (plain, expected))
    np.testing.assert_array_equal(left, right)


def test_passes_can_be_switched_off(make_refiner: MakeRefiner) -> None:
    off = dict.fromkeys(["scaling", "equalize", "weights", "biases", "gain", "layout"], False)
    _, report, _ = refined(make_refiner, zoo_case("inverted_residual"), effort="fast", **off)
    assert [(one.status, one.what) for one in report.passes[1:]] == [("skipped", "switched off")] * 6


def test_a_given_rule_is_not_chosen(make_refiner: MakeRefiner) -> None:
    case = zoo_case("inverted_residual")
    refiner = make_refiner(case, effort="full", ranges="minmax")
    assert not refiner.chooses_ranges
    _, report = refiner.refine(dict.fromkeys(case.operators, True), rules_of(case, "minmax"))
    assert (report.rule, report.rules) == ("minmax", {})
    assert report.passes[0].status == "skipped"


def test_a_later_call_keeps_the_rule(make_refiner: MakeRefiner) -> None:
    """The engine's fallback: one operator goes back to fp32, and nothing else is decided again."""
    case = zoo_case("inverted_residual")
    refiner = make_refiner(case, effort="fast")
    rule_of = rules_of(case)
    first, before = refiner.refine(dict.fromkeys(case.operators, True), rule_of)
    weighted = [o.name for o in case.inventory.quantizable if o.weighted]
    fewer = {name: True for name in case.operators if name != weighted[-1]}
    second, after = refiner.refine(fewer, rule_of)
    assert after.rule == before.rule
    assert after.rules == {}
    assert set(second.parameters) == set(first.parameters) - {weighted[-1]}
    quick = refiner.without_rework(fewer, rule_of)
    assert weighted[-1] not in quick.parameters
    assert quick.parameters[weighted[0]] is first.parameters[weighted[0]]
