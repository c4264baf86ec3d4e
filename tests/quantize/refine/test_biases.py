"""Biases: each operator's mean output is that of fp32, for the median image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from quantize.qdq import settled_scales, write_qdq
from quantize.refine.biases import corrected_operators, refine_biases
from quantize.refine.network import Draft, Network
from quantize.refine.observe import Observations, Watched, observe
from quantize.refine.walk import Walk
from quantize.refine.weights import rounded_weights
from tests.quantize.models import Case, zoo_case
from tests.quantize.refine.conftest import network_of

NAMES = [
    "inverted_residual",
    "fire_module",
    "squeeze_and_excite",
    "post_activation_residual",
    "conv_varieties",
]


def start(case: Case, network: Network) -> tuple[Draft, Observations]:
    operators = dict.fromkeys(case.operators, True)
    scales = settled_scales(case.prepared, case.inventory, operators, case.plan().scales)
    draft = rounded_weights(network, Draft(operators, scales))
    watched = Watched(list(network.weighted.values()), [])
    seen = observe(case.prepared, watched, [(case.images, None)], images=len(case.images), threads=1, seed=0)
    return draft, seen


def shifts(case: Case, network: Network, draft: Draft, seen: Observations) -> dict[str, float]:
    """Largest median difference of an operator's channel means from fp32."""
    model = write_qdq(case.prepared, case.inventory, draft.plan(), case.target)
    walk = Walk(model, [image[None] for image in case.images], threads=1, config_entries={})
    return {
        name: float(np.abs(np.median(seen.means[name] - walk.means_before(name), axis=0)).max())
        for name in corrected_operators(network, draft)
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_median_difference_vanishes(name: str) -> None:
    case = zoo_case(name)
    network = network_of(case)
    draft, seen = start(case, network)
    names = corrected_operators(network, draft)
    off = {
        one: dataclasses.replace(
            draft.parameters[one],
            bias=(draft.parameters[one].bias if draft.parameters[one].bias is not None else 0)
            + np.rint(0.2 / draft.parameters[one].bias_scale).astype(np.int32),
        )
        for one in names
    }
    off = {
        one: dataclasses.replace(
            p, bias=np.broadcast_to(p.bias, (network.weighted[one][1].outputs,)).astype(np.int32)
        )
        for one, p in off.items()
        if p.bias is not None
    }
    wrong = draft.but(parameters={**draft.parameters, **off})
    before = shifts(case, network, wrong, seen)
    made = refine_biases(network, wrong, seen, [image[None] for image in case.images], threads=1).draft
    after = shifts(case, network, made, seen)
    assert max(before.values()) > 0.15
    # A bias is rounded to a step of 1e-4 or so; the rest is float32.
    assert max(after.values()) < 0.005


def test_weights_and_scores_are_left_alone() -> None:
    case = zoo_case("inverted_residual")
    network = network_of(case)
    draft, seen = start(case, network)
    made = refine_biases(network, draft, seen, [image[None] for image in case.images], threads=1).draft
    scoring = [o.name for o in case.inventory.quantizable if o.float_output]
    for name, parameters in made.parameters.items():
        np.testing.assert_array_equal(parameters.weights, draft.parameters[name].weights)
        if name in scoring:
            assert parameters is draft.parameters[name]
    assert scoring


def test_a_minority_of_wild_images_does_not_drag_it() -> None:
    case = zoo_case("inverted_residual")
    network = network_of(case)
    draft, seen = start(case, network)
    images = [image[None] for image in case.images]
    calm = refine_biases(network, draft, seen, images, threads=1).draft
    wild = {name: means.copy() for name, means in seen.means.items()}
    for means in wild.values():
        means[:2] += 100.0  # two of eight
    dragged = refine_biases(network, draft, dataclasses.replace(seen, means=wild), images, threads=1).draft
    for name in corrected_operators(network, draft):
        old, new = calm.parameters[name], dragged.parameters[name]
        moved = np.abs((new.bias - old.bias) * old.bias_scale.astype(np.float64))  # type: ignore[operator]  # all of them have one
        assert moved.max() < 2.0  # the mean would have moved by 25


@pytest.mark.parametrize("name", ["matmul_head", "bare_matmul_head", "tokens"])
def test_a_matmul_has_no_bias_to_correct(name: str) -> None:
    case = zoo_case(name)
    network = network_of(case)
    draft, _ = start(case, network)
    kinds = {network.weighted[one][1].op_type for one in corrected_operators(network, draft)}
    assert "MatMul" not in kinds
