"""A refined draft taken apart: whatever is left of it still computes what the network computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quantize.portability import check_pairs
from quantize.qdq import write_qdq
from quantize.refine import Draft, Refiner
from quantize.session import make_session, outputs
from tests.quantize.models import Case, zoo_case
from tests.quantize.refine.conftest import MakeRefiner, rules_of

# It has a convolution, a ReLU6 and a depthwise convolution in a row, which equalization ties together.
NETWORK = "inverted_residual"


@pytest.fixture(scope="module")
def case() -> Case:
    return zoo_case(NETWORK)


@pytest.fixture(scope="module")
def refiner(case: Case, make_refiner: MakeRefiner) -> Refiner:
    return make_refiner(case, effort="fast")


@pytest.fixture(scope="module")
def whole(case: Case, refiner: Refiner) -> Draft:
    return refiner.refine(dict.fromkeys(case.operators, True), rules_of(case))[0]


def error_db(case: Case, draft: Draft) -> float:
    """Signal-to-noise of the scores against fp32, in dB."""
    model = write_qdq(case.prepared, case.inventory, draft.plan(), case.target)
    wanted, found = (scores(m, case) for m in (case.prepared, model))
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


def scores(model: Any, case: Case) -> npt.NDArray[np.float64]:
    return outputs(make_session(model, threads=1), case.images).astype(np.float64)


def equalized(case: Case, draft: Draft) -> list[str]:
    """The operators that make or read a tensor with factors."""
    return [o.name for o in case.inventory.quantizable if {*o.inputs, o.output} & draft.factors.keys()]


def test_any_operator_can_go_back_to_fp32(case: Case, refiner: Refiner, whole: Draft) -> None:
    """Above all those whose neighbours were rounded for channels that they had multiplied by factors."""
    assert len(equalized(case, whole)) >= 2
    assert max(float(factors.max()) for factors in whole.factors.values()) > 2.0
    least = error_db(case, whole)
    for name in case.operators:
        left = {other: True for other in case.operators if other != name}
        part = refiner.without_rework(left, rules_of(case))
        assert name not in part.operators
        # Less of it is rounded, so that little more error is chance; factors left behind would be 20 dB.
        assert error_db(case, part) > least - 3.0, name
        assert check_pairs(write_qdq(case.prepared, case.inventory, part.plan(), case.target)).unbounded == ()


def test_only_what_equalization_ties_is_rounded_anew(case: Case, refiner: Refiner, whole: Draft) -> None:
    tied = equalized(case, whole)
    for name in case.operators:
        left = {other: True for other in case.operators if other != name}
        part = refiner.without_rework(left, rules_of(case))
        changed = {
            other for other in part.parameters if part.parameters[other] is not whole.parameters[other]
        }
        assert changed <= set(tied)
        if name not in tied:
            assert changed == set()
            assert dict(part.factors) == dict(whole.factors)
    # The tensor that lost its factors is that of the operator that left.
    makers = {o.output: o.name for o in case.inventory.quantizable}
    (tensor, *_) = whole.factors
    left = {other: True for other in case.operators if other != makers[tensor]}
    part = refiner.without_rework(left, rules_of(case))
    assert tensor not in part.factors
    readers = {o.name for o in case.inventory.quantizable if tensor in o.inputs}
    changed = {other for other in part.parameters if part.parameters[other] is not whole.parameters[other]}
    assert changed == readers


def test_corrections_outlast_the_factors(case: Case, refiner: Refiner, whole: Draft) -> None:
    """The bias of what made an equalized tensor, once what read it is in fp32, is the corrected one."""
    by_output = {o.output: o for o in case.inventory.quantizable}
    (tensor, *_) = whole.factors
    maker = by_output[tensor].name
    (reader,) = (o.name for o in case.inventory.quantizable if tensor in o.inputs)
    left = {other: True for other in case.operators if other != reader}
    old = whole.parameters[maker]
    new = refiner.without_rework(left, rules_of(case)).parameters[maker]
    assert old.bias is not None
    assert new.bias is not None
    wanted = old.bias * old.bias_scale.astype(np.float64) / whole.factors[tensor]
    # Within half a step of the bias.
    assert np.all(np.abs(new.bias * new.bias_scale.astype(np.float64) - wanted) <= 0.501 * new.bias_scale)


def test_all_operators_are_the_whole(case: Case, refiner: Refiner, whole: Draft) -> None:
    part = refiner.without_rework(dict.fromkeys(case.operators, True), rules_of(case))
    assert part.plan() == whole.plan()


def test_an_operator_alone_costs_less_than_all_of_them(case: Case, refiner: Refiner, whole: Draft) -> None:
    least = error_db(case, whole)
    for name in case.operators:
        part = refiner.alone(name, dict.fromkeys(case.operators, True), rules_of(case))
        assert list(part.operators) == [name]
        assert part.factors == {}
        assert error_db(case, part) > least, name
        # Ranges are those of the refined model, and so are the weights where no factors are in them.
        assert all(scale == whole.scales[tensor] for tensor, scale in part.scales.items())
        if name in part.parameters and name not in equalized(case, whole):
            np.testing.assert_array_equal(part.parameters[name].weights, whole.parameters[name].weights)


@pytest.mark.parametrize("network", ["fire_module", "squeeze_and_excite", "matmul_head"])
def test_other_networks_with_dense_equalization(network: str, make_refiner: MakeRefiner) -> None:
    case = zoo_case(network)
    refiner = make_refiner(case, effort="full")
    operators, rules = dict.fromkeys(case.operators, True), rules_of(case)
    least = error_db(case, refiner.refine(operators, rules)[0])
    for name in case.operators:
        left = {other: True for other in operators if other != name}
        # What is left corrects the bias of an operator that is gone; factors left behind would be 20 dB.
        assert error_db(case, refiner.without_rework(left, rules)) > least - 6.0, name
        assert error_db(case, refiner.alone(name, operators, rules)) > least - 3.0, name
