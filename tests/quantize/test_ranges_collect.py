"""Statistics of activations: what is streamed equals what is computed with everything in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from quantize.errors import EngineError, InputError
from quantize.ranges import Extremes, Histograms, collect_extremes, collect_histograms
from quantize.ranges import collect as module
from quantize.ranges.collect import BIN_COUNT
from quantize.session import make_session
from tests.quantize.models import Net, images, make_case, zoo_case

IMAGES = images(12, seed=8)


def batches(*sizes: int) -> Iterator[tuple[Any, None]]:
    """The images, cut into batches of these sizes."""
    ends = list(itertools.accumulate(sizes))
    assert ends[-1] == len(IMAGES)
    for start, end in itertools.pairwise([0, *ends]):
        yield IMAGES[start:end], None


def tensors_of(name: str) -> list[str]:
    case = zoo_case(name)
    made = (name for operator in case.inventory.quantizable for name in operator.tensors)
    return list(dict.fromkeys(made))


def everything(model: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, Any]:
    """Tensor name -> its value for all images at once, [N, ...]."""
    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    for name in tensors:
        if name != "image":
            augmented.graph.output.add(name=name)
    session = make_session(augmented, threads=1)
    inner = [name for name in tensors if name != "image"]
    return {"image": IMAGES} | dict(zip(inner, session.run(inner, {"image": IMAGES}), strict=True))


@pytest.mark.parametrize("name", ["inverted_residual", "fire_module", "tokens"])
def test_extremes_are_those_of_each_image(name: str) -> None:
    case, tensors = zoo_case(name), tensors_of(name)
    found = collect_extremes(case.prepared, tensors, batches(5, 5, 2), threads=2)
    for tensor, values in everything(case.prepared, tensors).items():
        rows = values.reshape(len(IMAGES), -1)
        # All images at once or one by one: float32 sums in another order, a few 1e-6.
        np.testing.assert_allclose(found.lows[tensor], rows.min(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.highs[tensor], rows.max(axis=1), rtol=1e-4, atol=1e-5)
        assert found.bounds(tensor) == (
            min(float(found.lows[tensor].min()), 0.0),
            max(float(found.highs[tensor].max()), 0.0),
        )


@pytest.mark.parametrize("name", ["inverted_residual", "squeeze_and_excite"])
def test_histograms_are_those_of_all_values(name: str) -> None:
    case, tensors = zoo_case(name), tensors_of(name)
    extremes = collect_extremes(case.prepared, tensors, batches(12), threads=1)
    found = collect_histograms(case.prepared, extremes, batches(12), threads=1)
    for tensor, values in everything(case.prepared, tensors).items():
        expected, _ = np.histogram(values, BIN_COUNT, extremes.bounds(tensor))
        counts = found.counts[tensor]
        assert counts.sum() == values.size
        # Values at an edge between two bins may fall on either side.
        assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= max(3, values.size // 500)


def same(one: Extremes, other: Extremes) -> bool:
    pairs = [(one.lows[name], other.lows[name]) for name in one.lows]
    pairs += [(one.highs[name], other.highs[name]) for name in one.highs]
    return all(np.array_equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("sizes", [(1,) * 12, (5, 4, 3), (11, 1)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_batches_change_nothing(threads: int, sizes: tuple[int, ...]) -> None:
    model, tensors = zoo_case("inverted_residual").prepared, tensors_of("inverted_residual")
    expected = collect_extremes(model, tensors, batches(12), threads=1)
    found = collect_extremes(model, tensors, batches(*sizes), threads=threads)
    assert same(found, expected)
    histograms = [
        collect_histograms(model, expected, batches(*way), threads=count).counts
        for way, count in (((12,), 1), (sizes, threads))
    ]
    assert all(np.array_equal(histograms[0][name], histograms[1][name]) for name in tensors)


def test_a_fixed_batch_is_filled_with_the_same_image() -> None:
    net = Net()
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    open_case, fixed_case = make_case(net.model()), make_case(net.model(batch=4))
    tensors = [operator.inputs[0] for operator in open_case.inventory.quantizable]
    found = [
        collect_extremes(case.prepared, tensors, batches(12), threads=2) for case in (open_case, fixed_case)
    ]
    for name in tensors:
        np.testing.assert_allclose(found[0].lows[name], found[1].lows[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[0].highs[name], found[1].highs[name], rtol=1e-5, atol=1e-6)
        assert len(found[1].highs[name]) == len(IMAGES)


def test_only_a_few_images_are_under_way() -> None:
    """The loader is never more than `threads` images ahead, however many there are."""
    drawn = 0

    def loader() -> Iterator[tuple[Any, None]]:
        nonlocal drawn
        for position in range(len(IMAGES)):
            drawn += 1
            yield IMAGES[position : position + 1], None

    model = zoo_case("inverted_residual").prepared
    results = module.each_image(model, ["image"], loader(), lambda _, __: [(0.0, 0.0)], 2)
    next(results)
    assert drawn <= 3
    results.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    broken = IMAGES.copy()
    broken[7, 0, 0, 0] = value
    case = zoo_case("pre_activation_read_twice")
    with pytest.raises(InputError, match=r"input 'image' holds .* for image number 7"):
        collect_extremes(case.prepared, tensors_of("pre_activation_read_twice"), [(broken, None)], threads=2)


def test_the_first_operator_that_makes_nan_is_named() -> None:
    net = Net()
    x = net.conv("image", 3, 6, output="before")
    x = net.node("Log", x, output="logarithm")
    net.head(net.conv(x, 6, 6, output="after"), 6)
    with pytest.raises(InputError, match=r"\(Log\) is the first to make NaN, for image number 0"):
        collect_extremes(net.model(), ["before", "logarithm", "after"], [(IMAGES, None)], threads=1)


def test_no_images_and_no_tensors() -> None:
    model = zoo_case("inverted_residual").prepared
    with pytest.raises(EngineError, match="no calibration image"):
        collect_extremes(model, ["image"], [], threads=1)
    nothing = collect_extremes(model, [], batches(12), threads=1)
    assert nothing == Extremes({}, {})
    assert collect_histograms(model, nothing, batches(12), threads=1) == Histograms({})


@pytest.mark.parametrize("low_high", [(0.0, 0.0), (0.0, 1e-40), (-1e-38, 0.0)])
def test_a_tensor_of_next_to_nothing_falls_into_one_bin(low_high: tuple[float, float]) -> None:
    values = np.linspace(*low_high, 50, dtype=np.float32)
    counts = module._count(values, *low_high)
    assert counts.sum() == 50 and counts[0] == 50 and counts.dtype == np.int64


def test_both_ends_are_counted() -> None:
    counts = module._count(np.array([-1.0, 3.0], dtype=np.float32), -1.0, 3.0)
    assert counts[0] == 1 and counts[-1] == 1
