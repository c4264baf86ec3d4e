"""A walk through an integer network tells what its operators make on average, and ends with its scores."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantize.qdq import settled_scales, write_qdq
from quantize.refine.biases import corrected_operators
from quantize.refine.judge import scores
from quantize.refine.network import Draft, Network
from quantize.refine.observe import channel_means
from quantize.refine.walk import Walk
from quantize.refine.weights import rounded_weights
from quantize.session import make_session
from quantize.target import PORTABLE, TENSORRT, VNNI, Target
from tests.quantize.models import Case, zoo_case
from tests.quantize.refine.conftest import as_model_takes_them, network_of

CASES = [
    ("inverted_residual", PORTABLE),
    ("fire_module", PORTABLE),
    ("squeeze_and_excite", VNNI),
    ("conv_varieties", PORTABLE),
    ("conv_varieties", TENSORRT),
    ("gemm_varieties", PORTABLE),
    ("old_school", PORTABLE),
]


def integers(case: Case) -> tuple[Network, Draft, onnx.ModelProto]:
    network = network_of(case)
    operators = dict.fromkeys(case.operators, True)
    scales = settled_scales(case.prepared, case.inventory, operators, case.plan().scales)
    draft = rounded_weights(network, Draft(operators, scales))
    return network, draft, write_qdq(case.prepared, case.inventory, draft.plan(), case.target)


def walk_of(case: Case, network: Network, model: onnx.ModelProto, threads: int = 1) -> Walk:
    images, entries = as_model_takes_them(case, case.images), network.session_entries
    return Walk(model, images, threads=threads, config_entries=entries)


def tensor_of_each(model: onnx.ModelProto, tensor: str, case: Case, network: Network) -> list[np.ndarray]:
    """What a tensor of the whole model is for each image, on kernels that compute as the target does."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = make_session(shown, threads=1, config_entries=network.session_entries)
    name = case.signature.input_name
    return [session.run([tensor], {name: image[None]})[0][0] for image in case.images]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_means_are_those_of_the_operators_result(name: str, target: Target) -> None:
    case = zoo_case(name, target=target)
    network, draft, model = integers(case)
    walk = walk_of(case, network, model)
    nodes = {node.name: node for node in model.graph.node}
    names = corrected_operators(network, draft)
    assert names
    for one in names:
        output, op_type = nodes[one].output[0], nodes[one].op_type
        made = tensor_of_each(model, output, case, network)
        wanted, found = np.stack([channel_means(one, op_type) for one in made]), walk.means_before(one)
        # Float32 sums of up to some hundred products, on the side that is compared with.
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("name", "target"), CASES)
def test_it_ends_with_the_scores_of_the_whole_model(name: str, target: Target, threads: int) -> None:
    case = zoo_case(name, target=target)
    network, draft, model = integers(case)
    walk = walk_of(case, network, model, threads)
    for one in corrected_operators(network, draft)[:2]:
        walk.means_before(one)
    images = as_model_takes_them(case, case.images)
    wanted = scores(model, images, threads=1, config_entries=network.session_entries)
    # The tail in float is cut elsewhere, and may be fused otherwise.
    np.testing.assert_allclose(walk.scores(), wanted, rtol=1e-5, atol=1e-5)


def test_a_changed_bias_changes_what_comes_behind_it() -> None:
    case = zoo_case("inverted_residual")
    network, draft, model = integers(case)
    first, second = corrected_operators(network, draft)[:2]
    means = []
    for change in (0, 1000):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        walk = walk_of(case, network, changed)
        walk.means_before(first)
        (bias,) = (
            tensor for tensor in changed.graph.initializer if tensor.name.startswith(f"{first}_bias_q")
        )
        values = onnx.numpy_helper.to_array(bias) + np.int32(change)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        means.append(walk.means_before(second))
    assert np.abs(means[0] - means[1]).max() > 1e-3
