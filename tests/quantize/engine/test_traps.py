"""Traps 1 to 10 and 16 of DESIGN.md, about models; where cheap, the engine alone is shown to fall in."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quantize import engine
from quantize.engine.compatibility import contained
from quantize.errors import EngineError, InputError
from quantize.export import to_qoperator
from quantize.ranges import Extremes, RangeTable, activation_scale, collect
from quantize.scales import ActivationScale
from quantize.session import make_session
from quantize.weights import quantize_weights

PROJECT = Path(__file__).resolve().parents[3]


def dense_weights(kit: Any, model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for name in kit.WEIGHTED:
        node = kit.node_named(model, name)
        found[name] = kit.initializer(model, kit.producer_of(model, node.input[1]).input[0])
    return found


@pytest.mark.parametrize("vnni", [False, True])
def test_trap_01_engine_decides_by_the_cpu(
    kit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vnni: bool
) -> None:
    """reduce_range=None becomes `not CpuInfo().vnni`."""
    with contained(workspace=tmp_path, seed=1, verbose=False):
        from neural_compressor.utils.utility import CpuInfo

        monkeypatch.setattr(type(CpuInfo()), "vnni", property(lambda self: vnni))
        assert kit.engines_own_adaptor(workspace_path=str(tmp_path)).reduce_range is not vnni


def test_trap_01_nothing_is_left_to_the_machine(kit: Any) -> None:
    """reduce_range=None and the precisions depend on the CPU, quant_level="auto" on the first trial."""
    with contained(workspace=None, seed=1, verbose=False):
        settings = engine.run._settings(kit.build_options(), {}, {})
    assert (settings.reduce_range, settings.quant_level) == (False, 1)
    assert set(settings.excluded_precisions) == {"bf16", "fp16"}


def test_trap_01_result_does_not_depend_on_the_cpu(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """reduce_range=None becomes `not CpuInfo().vnni`; ours is the same model on every CPU."""
    with contained(workspace=None, seed=1, verbose=False):
        from neural_compressor.utils.utility import CpuInfo
    results = []
    for vnni in (False, True):
        monkeypatch.setattr(type(CpuInfo()), "vnni", property(lambda self, vnni=vnni: vnni))
        results.append(engine.tune(kit.build_task(), kit.build_options()).model.SerializeToString())
    assert results[0] == results[1]


def test_trap_02_seven_bit_weights_with_eight_bit_activations(kit: Any) -> None:
    """reduce_range=True cuts activations to 7 bits as well as weights; False leaves 8-bit dense weights."""
    loader = kit.CountingLoader(kit.make_images(12, 5))
    task = kit.build_task(loader=loader)
    low, high = task.ranges.extremes.bounds("s6")
    theirs = kit.engines_own_fit(kit.make_prepared(), loader, reduce_range=True, quant_format="QDQ").model
    assert kit.initializer(theirs, "s_scale") == pytest.approx((high - low) / 127, rel=1e-5)

    options = kit.build_options(op_wise={".*": {"activation": {"algorithm": ["minmax"]}}})
    ours = engine.tune(task, options).model
    # Ten significant bits of a range are kept.
    assert kit.initializer(ours, "s6_scale") == pytest.approx((high - low) / 255, rel=2**-10)
    assert kit.initializer(ours, "s6_zero_point").dtype == np.uint8
    for name, weights in dense_weights(kit, ours).items():
        assert weights.dtype == np.int8
        assert np.abs(weights.astype(int)).max() == (127 if name == "depthwise" else 64)


def test_trap_03_success_has_integer_convolutions(kit: Any, tmp_path: Path) -> None:
    """quant_level="auto" runs all or nothing and reports success with zero int8 convolutions."""
    prepared = kit.make_prepared()
    harm = kit.Harm({"expand": 0.2})
    theirs = kit.engines_own_fit(
        prepared,
        kit.CountingLoader(kit.make_images(12, 5)),
        judge=harm,
        quant_level="auto",
        quant_format="QDQ",
    )
    convolutions = {"stem", "expand", "depthwise", "project"}
    assert theirs is not None
    assert not convolutions & kit.integer_operators(theirs.model)

    ours = engine.tune(
        kit.build_task(prepared, judge=harm, divergence=harm.divergence), kit.build_options(0.01)
    )
    assert ours.met
    assert kit.integer_operators(ours.model) == set(kit.WEIGHTED) - {"expand"}
    # What ONNX Runtime makes of it counts, not what the graph looks like.
    plain = engine.tune(kit.build_task(prepared), kit.build_options())
    coverage = kit.coverage_of(plain.model, tmp_path)
    assert coverage.integer["QLinearConv"] == 4
    assert "Conv" not in coverage.floating


class Stop(Exception):
    """Raised by tests."""


@pytest.mark.parametrize("place", ["judge", "divergence", "listener", "ranges"])
@pytest.mark.parametrize(
    ("raised", "surfaces"),
    [
        (Stop("first line\nsecond line"), EngineError),
        (SystemExit(0), EngineError),
        (MemoryError(), MemoryError),
        (InputError("val.txt: gone"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_trap_04_nothing_is_swallowed(
    kit: Any, place: str, raised: BaseException, surfaces: type[BaseException]
) -> None:
    """`fit` catches everything, SystemExit included, and returns None; helpers call exit(0)."""

    def fail(*_: Any) -> Any:
        raise raised

    parts = {place: fail} if place in ("judge", "divergence") else {}
    task = kit.build_task(**parts)
    if place == "ranges":
        task.ranges.make_histograms = fail
        restriction = {".*": {"activation": {"algorithm": ["kl"]}}}
    else:
        restriction = {}
    listener = fail if place == "listener" else lambda trial: None
    with pytest.raises(surfaces) as caught:
        engine.tune(task, kit.build_options(op_wise=restriction), listener)
    if surfaces is EngineError:
        assert len(str(caught.value).splitlines()) == 1
        assert type(raised).__name__ in str(caught.value)
        assert caught.value.__cause__ is raised
    else:
        assert caught.value is raised


def test_trap_04_engine_alone_returns_none(kit: Any) -> None:
    """`fit` catches everything, SystemExit included, and returns None."""

    class Fails:
        def __call__(self, model: Any) -> float:
            raise Stop

    loader = kit.CountingLoader(kit.make_images(4, 5))
    assert kit.engines_own_fit(kit.make_prepared(), loader, judge=Fails()) is None


def test_trap_05_weights_of_an_old_opset_are_per_channel(kit: Any) -> None:
    """QDQ on opset < 13 silently becomes per-tensor, because `DequantizeLinear` has no axis there."""
    old = kit.build_network(opset=11)
    loader = kit.CountingLoader(kit.make_images(12, 5))
    theirs = kit.engines_own_fit(old, loader, quant_format="QDQ").model
    scale = kit.producer_of(theirs, kit.node_named(theirs, "expand_quant").input[1]).input[1]
    assert kit.initializer(theirs, scale).size == 1

    for opset in (9, 11):
        result = engine.tune(kit.build_task(kit.make_prepared(opset=opset)), kit.build_options())
        dequantize = kit.producer_of(result.model, kit.node_named(result.model, "expand").input[1])
        assert kit.initializer(result.model, dequantize.input[1]).shape == (2 * kit.WIDTH,)
        assert onnx.helper.get_node_attr_value(dequantize, "axis") == 0
        assert result.trial.per_channel


def test_trap_06_the_space_is_narrow(kit: Any, tmp_path: Path) -> None:
    """The engine's own space multiplies trials; symmetric activations (S8S8) run in slow portable code."""
    from quantize.engine.adaptor import RefinedAdaptor

    with contained(workspace=tmp_path, seed=1, verbose=False):
        from neural_compressor.model import Model

        task = kit.build_task()
        model = Model(task.model)
        theirs = kit.engines_own_adaptor(
            workspace_path=str(tmp_path), reduce_range=False
        ).query_fw_capability(model)
        assert theirs["optypewise"].keys() >= {"Clip", "Relu", "Flatten"}  # each of them a choice of its own

        ours = type("Ours", (RefinedAdaptor,), {"task": task})(
            {"device": "cpu", "approach": "post_training_static_quant", "backend": "default", "format": "QDQ"}
            | {"workspace_path": str(tmp_path), "recipes": {}, "reduce_range": False}
        ).query_fw_capability(model)
    for (name, _), entries in ours["opwise"].items():
        integer = [entry["activation"] for entry in entries if "quant_mode" in entry["activation"]]
        assert [(one["dtype"], one["scheme"]) for one in integer] == [(["uint8"], ["asym"])], name
    assert {op_type for _, op_type in ours["opwise"]} == {"Conv", "Gemm", "Add", "GlobalAveragePool"}


def test_trap_06_activations_are_not_collected(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kl` and `percentile` hold every activation of every image in memory."""
    alive: list[int] = [0, 0]
    lock = threading.Lock()

    def gone() -> None:
        with lock:
            alive[0] -= 1

    class Watched:
        def __init__(self, session: Any) -> None:
            self._session = session
            self.get_outputs = session.get_outputs

        def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
            values = self._session.run(names, feed)
            with lock:
                alive[0] += 1
                alive[1] = max(alive)
            weakref.finalize(values[0], gone)
            return values

    monkeypatch.setattr(collect, "make_session", lambda *a, **k: Watched(make_session(*a, **k)))
    loader = kit.CountingLoader(kit.make_images(64, 5), batch_size=16)
    task = kit.build_task(loader=loader)
    restriction = {".*": {"activation": {"algorithm": ["kl", "percentile"]}}}
    engine.tune(task, kit.build_options(op_wise=restriction))
    assert loader.passes == 2
    assert alive[1] <= 4  # of 64 images: those under way, and the one whose statistics are taken


def test_trap_07_ranges_are_measured_once(kit: Any) -> None:
    """Every trial of the engine calibrates again."""

    class Misses:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, model: Any) -> float:
            self.calls += 1
            return 0.9 if self.calls == 1 else 0.1

    theirs = kit.CountingLoader(kit.make_images(12, 5))
    with contained(workspace=None, seed=1, verbose=False):
        from neural_compressor.config import TuningCriterion

        criterion = TuningCriterion(max_trials=3)
    kit.engines_own_fit(kit.make_prepared(), theirs, judge=Misses(), tuning_criterion=criterion)
    assert theirs.passes >= 3

    ours = kit.CountingLoader(kit.make_images(12, 5))
    task = kit.build_task(loader=ours, judge=Misses())
    for strategy in engine.SUPPORTED_STRATEGIES:
        engine.tune(task, kit.build_options(strategy=strategy, max_trials=12))
    assert ours.passes == 2  # extremes, then histograms: for all strategies, trials and rules


def test_trap_08_a_scale_of_one_keeps_its_zero_point(kit: Any) -> None:
    """The engine takes scale exactly 1 for "degenerate": uint8 [-100, 155] gets zero point 0."""
    with contained(workspace=None, seed=1, verbose=False):
        from neural_compressor.adaptor.ox_utils.util import calculate_scale_zp

        scale, zero_point = calculate_scale_zp(-100.0, 155.0, 255, TensorProto.UINT8, "asym")
        assert (scale, zero_point) == (1, 0)
    assert activation_scale(-100.0, 155.0) == ActivationScale(1.0, 100)

    task = kit.build_task()
    lows = dict(task.ranges.extremes.lows) | {"p": np.full(12, -100, np.float32)}
    highs = dict(task.ranges.extremes.highs) | {"p": np.full(12, 155, np.float32)}
    table = RangeTable(Extremes(lows, highs), task.ranges.make_histograms)
    restriction = {".*": {"activation": {"algorithm": ["minmax"]}}}
    result = engine.tune(kit.build_task(ranges=table), kit.build_options(0.99, op_wise=restriction))
    assert kit.initializer(result.model, "p_scale") == 1.0
    assert kit.initializer(result.model, "p_zero_point") == 100


def test_trap_09_integers_are_clipped(kit: Any) -> None:
    """Weights are cast without clipping: what does not fit wraps around to the other sign."""
    with contained(workspace=None, seed=1, verbose=False):
        from neural_compressor.adaptor.ox_utils.util import quantize_data_with_scale_zero

        wrapped = quantize_data_with_scale_zero(np.float32([200.0]), TensorProto.INT8, "sym", 1.0, 0)
        assert wrapped[0] < 0
    # The largest float below a rounding boundary: divided by its own rounded scale it may exceed the limit.
    weights = np.random.default_rng(0).normal(0, 1, (4000, 3)).astype(np.float32)
    for limit in (64, 127):
        integers, _ = quantize_weights(weights, limit, 0)
        assert np.abs(integers.astype(int)).max() == limit
        assert np.all(np.sign(integers) * np.sign(weights) >= 0)
    model = engine.tune(kit.build_task(kit.make_prepared(outlier="expand")), kit.build_options(0.99)).model
    source = kit.initializer(kit.make_prepared(outlier="expand"), "expand_w")
    written = dense_weights(kit, model)["expand"]
    assert np.all(np.sign(written) * np.sign(source) >= 0)


def test_trap_10_gemm_stays_one_operator_with_float_scores(kit: Any) -> None:
    """Gemm becomes MatMul + Add, whose bias is added to uint8 scores."""
    loader = kit.CountingLoader(kit.make_images(12, 5))
    theirs = kit.engines_own_fit(kit.make_prepared(), loader, quant_format="QOperator").model
    assert "QGemm" not in {node.op_type for node in theirs.graph.node}

    qdq = engine.tune(kit.build_task(), kit.build_options()).model
    assert kit.producer_of(qdq, "scores").op_type == "Gemm"
    qoperator = to_qoperator(qdq)
    classifier = kit.producer_of(qoperator, "scores")
    assert (classifier.op_type, classifier.name) == ("QGemm", "classifier")
    assert len(classifier.input) == 7  # no output scale and zero point: the scores are float32


def test_trap_16_add_is_an_integer_in_both_formats(kit: Any, tmp_path: Path) -> None:
    """Adds are quantizable only in the engine's QLinear table, so its QDQ models leave them in fp32."""
    with contained(workspace=tmp_path, seed=1, verbose=False):
        from neural_compressor.model import Model

        adaptor = kit.engines_own_adaptor(workspace_path=str(tmp_path), reduce_range=False)
        assert "Add" not in adaptor.query_fw_capability(Model(kit.make_prepared()))["optypewise"]
    qdq = engine.tune(kit.build_task(), kit.build_options()).model
    residual = kit.node_named(qdq, "residual")
    assert {kit.producer_of(qdq, name).op_type for name in residual.input} == {"DequantizeLinear"}
    assert kit.node_named(to_qoperator(qdq), "residual").op_type == "QLinearAdd"
    assert kit.coverage_of(qdq, tmp_path).integer["QLinearAdd"] == 1
