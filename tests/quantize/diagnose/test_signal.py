"""Signal-to-noise, against the same figures taken another way, and on networks of every kind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quantize.diagnose.pairing import pair_tensors
from quantize.diagnose.signal import collect_histograms, decibel, measure_signal
from quantize.errors import EngineError
from quantize.export import to_qoperator
from tests.quantize.models import ZOO, Case, zoo_case

NAMES = sorted(ZOO)


def pairs_of(case: Case, qdq: onnx.ModelProto | None = None) -> list[Any]:
    return pair_tensors(case.prepared, case.inventory, case.qdq() if qdq is None else qdq)


def single_images(case: Case) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    batch = case.signature.batch or 1
    return [case.images[k * batch : (k + 1) * batch] for k in range(min(4, len(case.images) // batch))]


def values_of(model: onnx.ModelProto, tensor: str, image: Any, kind: int) -> np.ndarray[Any, Any]:
    """Run without any of our code, and without optimizations."""
    if tensor == model.graph.input[0].name:
        return np.asarray(image)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if tensor not in {value.name for value in changed.graph.output}:
        changed.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(changed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run([tensor], {session.get_inputs()[0].name: image})
    return np.asarray(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_quantized_tensor_is_paired_once(name: str) -> None:
    case = zoo_case(name)
    found = pairs_of(case)
    tensors = [pair.tensor for pair in found]
    assert len(set(tensors)) == len(tensors)
    moved = {n.output[0] for n in case.prepared.graph.node if n.name in set(case.inventory.movement)}
    needed = {tensor for operator in case.inventory.quantizable for tensor in operator.inputs}
    assert set(tensors) >= needed - moved
    scales = case.plan().scales
    for pair in found:
        # A Relu or Clip that was absorbed may have made it finer, never wider.
        assert pair.scale.scale <= scales[pair.tensor].scale * (1 + 1e-6)


def test_no_figure_depends_on_the_number_of_threads() -> None:
    case = zoo_case("inverted_residual")
    qdq = case.qdq()
    pairs, images = pairs_of(case, qdq), single_images(case)

    def measured(threads: int) -> Any:
        found = measure_signal(case.prepared, to_qoperator(qdq), pairs, images, factors={}, threads=threads)
        return found, collect_histograms(case.prepared, found, images, factors={}, threads=threads)

    assert measured(1) == measured(3)


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_those_of_the_definition(name: str) -> None:
    case = zoo_case(name)
    qdq = case.qdq()
    pairs, images, int8 = pairs_of(case, qdq), single_images(case), to_qoperator(qdq)
    found = measure_signal(case.prepared, int8, pairs, images, factors={}, threads=2)
    assert [one.pair for one in found] == pairs
    for one in found:
        signal = noise = own = 0.0
        low, high = math.inf, -math.inf
        for image in images:
            real = values_of(case.prepared, one.pair.tensor, image, 1).astype(np.float64)
            q = values_of(int8, one.pair.quantized, image, 2).astype(np.float64)
            scale, zero = one.pair.scale.scale, one.pair.scale.zero_point
            signal += float(np.square(real).sum())
            noise += float(np.square((q - zero) * scale - real).sum())
            alone = np.clip(np.rint(real / scale) + zero, 0, 255)
            own += float(np.square((alone - zero) * scale - real).sum())
            low, high = min(low, real.min()), max(high, real.max())
        # Optimized and plain kernels round float32 sums in another order, so that single integers may differ.
        assert one.sqnr_db == pytest.approx(decibel(signal, noise), abs=0.5, nan_ok=True)
        assert one.own_sqnr_db == pytest.approx(decibel(signal, own), abs=0.05, nan_ok=True)
        assert (one.low, one.high) == pytest.approx((low, high), rel=1e-4, abs=1e-5)


def test_operators_in_fp32_are_not_paired() -> None:
    case = zoo_case(NAMES[0])
    assert pairs_of(case, case.qdq([])) == []
    assert measure_signal(case.prepared, case.qdq([]), [], single_images(case), factors={}, threads=1) == []


def test_a_range_that_is_too_narrow_saturates_and_one_too_wide_is_coarse() -> None:
    case = zoo_case(NAMES[0])
    pair = next(pair for pair in pairs_of(case) if not pair.operator)
    images = single_images(case)

    def measured(factor: float) -> Any:
        scale = type(pair.scale)(pair.scale.scale * factor, pair.scale.zero_point)
        changed = type(pair)(pair.tensor, pair.quantized, scale, "", "")
        (one,) = measure_signal(
            case.prepared, to_qoperator(case.qdq()), [changed], images, factors={}, threads=1
        )
        return one

    right, narrow, wide = measured(1.0), measured(0.25), measured(4.0)
    assert right.saturated_fraction == 0.0 == wide.saturated_fraction
    assert narrow.saturated_fraction > 0.1
    assert narrow.own_sqnr_db < right.own_sqnr_db
    # Four times the step is 20 log10(4) = 12 dB more noise.
    assert right.own_sqnr_db - wide.own_sqnr_db == pytest.approx(12.04, abs=1.0)


def test_histograms_count_every_value() -> None:
    case = zoo_case(NAMES[0])
    pairs, images = pairs_of(case), single_images(case)
    signals = measure_signal(case.prepared, to_qoperator(case.qdq()), pairs, images, factors={}, threads=1)[
        :3
    ]
    for one, histogram in zip(
        signals, collect_histograms(case.prepared, signals, images, factors={}, threads=1), strict=True
    ):
        values = np.concatenate(
            [values_of(case.prepared, one.pair.tensor, image, 1).ravel() for image in images]
        )
        expected, _ = np.histogram(values, bins=len(histogram.counts), range=(one.low, one.high))
        assert sum(histogram.counts) == values.size
        # A value on an edge may fall to either side.
        assert np.abs(np.asarray(histogram.counts) - expected).sum() <= 4
    assert collect_histograms(case.prepared, [], images, factors={}, threads=1) == []


def test_decibels() -> None:
    assert decibel(100.0, 1.0) == pytest.approx(20.0)
    assert decibel(1.0, 0.0) == math.inf
    assert decibel(0.0, 1.0) == -math.inf
    assert math.isnan(decibel(0.0, 0.0))


def test_what_the_runtime_refuses_is_an_engine_error() -> None:
    case = zoo_case(NAMES[0])
    broken = onnx.ModelProto()
    broken.CopyFrom(case.prepared)
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(EngineError, match="NoSuchOperator"):
        measure_signal(
            broken, to_qoperator(case.qdq()), pairs_of(case), single_images(case), factors={}, threads=1
        )


def test_equalized_channels_are_compared_with_multiplied_ones() -> None:
    case = zoo_case(NAMES[0])
    int8, images = to_qoperator(case.qdq()), single_images(case)
    pair = next(pair for pair in pairs_of(case) if pair.operator)
    channels = values_of(case.prepared, pair.tensor, images[0], 1).shape[1]

    def measured(scale: float, factors: Any) -> Any:
        changed = type(pair)(
            pair.tensor, pair.quantized, type(pair.scale)(scale, pair.scale.zero_point), pair.operator, "Conv"
        )
        (one,) = measure_signal(case.prepared, int8, [changed], images, factors=factors, threads=1)
        return one

    plain = measured(pair.scale.scale, {})
    # A tensor that holds twice its values, on a scale of twice the step, is as good as before.
    doubled = measured(2 * pair.scale.scale, {pair.tensor: np.full(channels, 2.0, np.float32)})
    assert doubled.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-3)
    assert doubled.own_sqnr_db == pytest.approx(plain.own_sqnr_db, abs=1e-3)
    assert doubled.high == pytest.approx(2 * plain.high)
    assert measured(2 * pair.scale.scale, {}).sqnr_db < 3.0  # what forgetting them would say
    (histogram,) = collect_histograms(
        case.prepared, [doubled], images, factors={pair.tensor: np.full(channels, 2.0, np.float32)}, threads=1
    )
    (before,) = collect_histograms(case.prepared, [plain], images, factors={}, threads=1)
    assert np.abs(np.subtract(histogram.counts, before.counts)).sum() <= 4
