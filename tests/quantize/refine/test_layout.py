"""A stem of four channels: the same integers, in both formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantize.export import to_qoperator
from quantize.kernels import graph_coverage
from quantize.qdq import write_qdq
from quantize.refine.layout import pad_stem
from quantize.refine.network import Draft
from quantize.session import make_session, outputs
from quantize.target import TARGETS
from tests.quantize.models import Case, make_case, zoo_case
from tests.quantize.net import Net
from tests.quantize.refine.conftest import network_of


def drafted(case: Case) -> Draft:
    plan = case.plan()
    return Draft(dict.fromkeys(case.operators, True), plan.scales)


def stem(channels: int = 3, kernel: int = 3, **more: Any) -> Case:
    net = Net(13, seed=5)
    x = net.relu(net.conv("image", channels, 6, kernel, **more))
    net.head(net.conv(x, 6, 8), 8)
    return make_case(net.model(channels=channels))


@pytest.mark.parametrize("kernel", [3, 5])
def test_it_computes_the_same(kernel: int) -> None:
    case = stem(kernel=kernel)
    network, draft = network_of(case), drafted(case)
    padded = pad_stem(network, draft)
    assert padded is not None
    (name,) = padded.padding
    plain, wide = (
        write_qdq(case.prepared, case.inventory, one.plan(), case.target) for one in (draft, padded)
    )
    shapes = {tensor.name: tuple(tensor.dims) for tensor in wide.graph.initializer}
    assert shapes[f"{name}_weight_quantized"] == (6, 4, kernel, kernel)
    expected = outputs(make_session(plain, threads=1), case.images)
    for model in (wide, to_qoperator(wide)):
        np.testing.assert_array_equal(outputs(make_session(model, threads=1), case.images), expected)
    assert graph_coverage(to_qoperator(wide).graph).integer["QLinearConv"] == 2


@pytest.mark.parametrize(
    "case",
    [stem(channels=1), stem(channels=4), stem(kernel=1), stem(group=3), zoo_case("channels_last_input")],
    ids=["grey", "four channels", "pointwise", "grouped", "behind a Transpose"],
)
def test_other_stems_stay(case: Case) -> None:
    assert pad_stem(network_of(case), drafted(case)) is None


def test_a_stem_in_fp32_and_other_devices_stay() -> None:
    case = stem()
    draft = drafted(case)
    (first, *others) = case.operators
    left = draft.but(operators=dict.fromkeys(others, True))
    assert first in network_of(case).weighted
    assert pad_stem(network_of(case), left) is None
    phone = make_case(case.model, TARGETS["qnn"])
    assert pad_stem(network_of(phone), drafted(phone)) is None
