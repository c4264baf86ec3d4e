"""Passed or not, and a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from quantize.criterion import Criterion
from quantize.metrics import Equality
from quantize.operators import FloatOperator
from quantize.portability import PairBound, Portability
from quantize.report.verdict import judge
from quantize.target import TARGETS, TargetName


def test_within_tolerance_passes_and_tells_the_uncertainty(make_verification: Any) -> None:
    verdict = judge(make_verification(), Criterion(tolerance=0.01))
    assert verdict.passed
    # 2 of 336 are 0.595 %
    assert verdict.sentence.startswith(
        "PASS: QOperator and QDQ: top-1 declines 0.60 % (tolerated 1.00 %) on 400 images; "
        "95 % interval up to "
    )
    assert "more images would narrow it" in verdict.sentence


def test_a_sure_pass_says_no_more_than_that(make_verification: Any) -> None:
    verdict = judge(make_verification(lost=0, won=0), Criterion(kind="absolute", tolerance=0.1))
    assert (
        verdict.sentence
        == "PASS: QOperator and QDQ: top-1 does not decline (tolerated 10.00 pp) on 400 images."
    )


def test_too_much_lost_fails_with_figures_and_a_cure(make_verification: Any) -> None:
    verdict = judge(make_verification(lost=10, won=2), Criterion(tolerance=0.01))
    assert not verdict.passed
    assert verdict.sentence == (
        "FAIL: QOperator and QDQ: top-1 declines 2.38 % > 1.00 % (84.00% -> 82.00%). "
        "Next: more --calibration_samples, or a larger --tolerable_loss."
    )


@pytest.mark.parametrize(
    ("stopped_by", "cure"),
    [("trials", "more --max_trials"), ("timeout", "a longer --timeout"), ("exhausted", "a larger")],
)
def test_the_cure_fits_what_ended_the_search(make_verification: Any, stopped_by: str, cure: str) -> None:
    sentence = judge(make_verification(lost=10), Criterion(tolerance=0.01), stopped_by=stopped_by).sentence
    assert cure in sentence.partition("Next: ")[2]
    assert ("stopped by --timeout" in sentence) is (stopped_by == "timeout")
    assert ("--max_trials" in sentence) is (stopped_by == "trials")


def test_one_bad_format_is_enough(make_verification: Any) -> None:
    verdict = judge(make_verification(qdq_lost=40), Criterion(tolerance=0.01))
    assert not verdict.passed
    assert "FAIL: QDQ: top-1 declines" in verdict.sentence
    assert "QOperator" not in verdict.sentence


def test_the_metric_and_kind_of_the_criterion_count(make_verification: Any) -> None:
    bad_top1 = make_verification(lost=40)
    assert judge(bad_top1, Criterion(metric="top5")).passed
    # 39 of 400 images are 9.75 points, but 11.6 % of 336.
    assert judge(bad_top1, Criterion(kind="absolute", tolerance=0.10)).passed
    assert not judge(bad_top1, Criterion(kind="relative", tolerance=0.10)).passed


def test_accuracy_kept_by_not_quantizing_is_no_success(make_verification: Any) -> None:
    verdict = judge(make_verification(lost=0, nothing=True), Criterion())
    assert not verdict.passed
    assert "no convolution or matrix product runs in integers" in verdict.sentence
    assert "report.json" in verdict.sentence


def left(*kinds: str) -> list[FloatOperator]:
    return [
        FloatOperator(f"operator_{number}", kind, "sensitive", fallback=True)
        for number, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("reasons", "passed"),
    [
        ([], False),
        (left("Conv"), False),
        (left("Conv", "Add"), False),  # an Add is no reason for a convolution
        (left("Conv", "Gemm"), True),
    ],
)
def test_float_operators_need_a_reason_each(
    make_verification: Any, reasons: list[FloatOperator], passed: bool
) -> None:
    verdict = judge(make_verification(stray=("a", "b")), Criterion(), reasons)
    assert verdict.passed is passed
    if passed:
        assert "2 operators left in fp32" in verdict.sentence
    else:
        assert "2 of 53 convolutions and matrix products run in float" in verdict.sentence
        assert "(a, b)" in verdict.sentence


def test_what_never_could_be_an_integer_is_not_counted_as_left(make_verification: Any) -> None:
    softmax = FloatOperator("head", "Softmax", "ONNX Runtime has no integer kernel for Softmax")
    assert "left in fp32" not in judge(make_verification(), Criterion(), [softmax]).sentence


def test_many_names_are_cut(make_verification: Any) -> None:
    sentence = judge(make_verification(stray=tuple("abcdef")), Criterion()).sentence
    assert "(a, b, c, ...)" in sentence
    assert "\n" not in sentence


def test_a_close_miss_shows_the_digits_that_differ(make_verification: Any) -> None:
    # 4 of 336 images are 1.190476 %
    sentence = judge(make_verification(lost=4, won=0), Criterion(tolerance=0.01190)).sentence
    assert "1.1905 % > 1.1900 %" in sentence


INEXACT = Portability(Equality(400, 388, 0.25), PairBound(36, 17))
UNBOUNDED = Portability(Equality(400, 400), PairBound(36, 17, ("a", "b", "c", "d")))


def test_a_portable_model_must_not_depend_on_the_cpu(make_verification: Any) -> None:
    verdict = judge(make_verification(portability=INEXACT), Criterion())
    assert not verdict.passed
    assert verdict.sentence.startswith(
        "FAIL: QOperator and QDQ: logits differ from those of exact kernels on 12 of 400 images, by at most "
        "0.25. Next: --target=vnni or arm if it only runs there"
    )


def test_weights_that_can_saturate_fail_even_if_no_image_shows_it(make_verification: Any) -> None:
    verdict = judge(make_verification(portability=UNBOUNDED), Criterion())
    assert not verdict.passed
    assert (
        "weights of 4 of 36 dense operators can saturate on CPUs without VNNI (a, b, c, ...)"
        in verdict.sentence
    )
    both = Portability(INEXACT.equality, UNBOUNDED.bound)
    assert " and weights of 4 of 36" in judge(make_verification(portability=both), Criterion()).sentence


@pytest.mark.parametrize("name", ["vnni", "arm", "tensorrt", "qnn"])
def test_other_targets_promise_no_such_thing(make_verification: Any, name: TargetName) -> None:
    for portability in (INEXACT, UNBOUNDED):
        assert judge(make_verification(portability=portability, target=TARGETS[name]), Criterion()).passed
    assert not judge(make_verification(portability=INEXACT, target=TARGETS["avx2"]), Criterion()).passed


def test_a_loss_keeps_its_cure_when_exactness_is_lost_as_well(make_verification: Any) -> None:
    sentence = judge(make_verification(lost=30, portability=INEXACT), Criterion()).sentence
    assert "declines" in sentence and "logits differ" in sentence
    assert "Next: more --calibration_samples" in sentence
