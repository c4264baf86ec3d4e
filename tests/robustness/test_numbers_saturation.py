"""Saturation on the running CPU is found and told, on CPUs that saturate and on those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quantize import measure, restart, saturation
from quantize.cli import main
from quantize.data import load_data
from quantize.evaluate import evaluate
from quantize.metrics import Equality
from quantize.model import read_signature
from quantize.portability import COMPARED_IMAGES, EXACT_KERNELS, PairBound, Portability, pairs_are_bounded
from quantize.prediction import make_predictor
from quantize.saturation import Saturation, find_saturation, here_line, pair_bound
from quantize.session import make_session, outputs
from quantize.target import PORTABLE, VNNI
from quantize.verify import verify
from tests.quantize.image_samples import TRANSFORM, configured, folders, write_folders
from tests.robustness.covering import covers
from tests.robustness.integer_kernels import products, qlinear_conv

EXTENT, CHANNELS, CLASSES = 6, 4, 5
SHAPE = (3, EXTENT, EXTENT)


def weights_of(largest: int, *, seed: int = 0) -> np.ndarray[Any, Any]:
    """Large weights of one sign side by side, which is what saturates; at most 64 they cannot."""
    random = np.random.default_rng(seed)
    signs = np.repeat(random.choice([-1, 1], (CLASSES, CHANNELS // 2, 1, 1)), 2, axis=1)
    return (signs * random.integers(largest // 2, largest + 1, signs.shape)).astype(np.int8)


def constants_of(weights: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What QLinearConv reads besides the data, in its order."""
    return {
        "x_scale": np.float32(0.005),
        "x_zero": np.uint8(0),
        "w": weights,
        "w_scale": np.float32(0.01),
        "w_zero": np.int8(0),
        "y_scale": np.float32(0.1),
        "y_zero": np.uint8(128),
    }


def int8_model(weights: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """Image [N,3,6,6] → four channels → Q → QLinearConv 1x1 → DQ → mean: somebody's QOperator model."""
    mix = np.random.default_rng(1).uniform(0.2, 1.0, (CHANNELS, 3, 1, 1)).astype(np.float32)
    constants = {**constants_of(weights), "mix": mix}
    nodes = [
        helper.make_node("Conv", ["image", "mix"], ["mixed"], "mix"),
        helper.make_node("QuantizeLinear", ["mixed", "x_scale", "x_zero"], ["q"], "quantize"),
        helper.make_node("QLinearConv", ["q", *constants_of(weights)], ["r"], "conv"),
        helper.make_node("DequantizeLinear", ["r", "y_scale", "y_zero"], ["real"], "dequantize"),
        helper.make_node("GlobalAveragePool", ["real"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["scores"], "flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class StandIn:
    """A session of `int8_model` on a CPU without VNNI: its integer kernel is numpy's, with saturation."""

    def __init__(self, weights: np.ndarray[Any, Any], *, saturating: bool) -> None:
        self.weights, self.saturating = weights, saturating
        self.mix = next(t for t in int8_model(weights).graph.initializer if t.name == "mix")

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image", shape=["n", *SHAPE], type="tensor(float)")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="scores")]

    def run(self, _: Any, feeds: dict[str, Any]) -> list[Any]:
        constants = constants_of(self.weights)
        mixed = np.einsum("oi,nihw->nohw", numpy_helper.to_array(self.mix)[:, :, 0, 0], feeds["image"])
        x = np.clip(np.rint(mixed / constants["x_scale"]), 0, 255).astype(np.uint8)
        y = qlinear_conv(x, *constants.values(), saturating=self.saturating).astype(np.float32)
        return [((y - 128) * constants["y_scale"]).mean(axis=(2, 3), dtype=np.float32)]

    def logits(self, _: int, images: Callable[[], Any]) -> Any:
        return self.run(None, {"image": images()})[0]


@pytest.fixture
def images() -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).uniform(0.0, 1.5, (8, *SHAPE)).astype(np.float32)


def on_a_cpu_without_vnni(
    monkeypatch: pytest.MonkeyPatch, weights: np.ndarray[Any, Any], *modules: Any
) -> None:
    """Every session that these modules build saturates, but for exact ones."""

    def make(*_: Any, config_entries: Any = None, **__: Any) -> Any:
        return StandIn(weights, saturating=config_entries != EXACT_KERNELS)

    for module in modules:
        monkeypatch.setattr(module, "make_session", make)


def saved(folder: Path, weights: np.ndarray[Any, Any]) -> Path:
    path = folder / "theirs.onnx"
    onnx.save(int8_model(weights), path)
    return path


def test_the_stand_in_is_the_runtime_where_nothing_saturates(images: Any) -> None:
    for largest in (64, 127):
        weights = weights_of(largest)
        real = outputs(make_session(int8_model(weights), threads=1, config_entries=EXACT_KERNELS), images)
        np.testing.assert_allclose(
            StandIn(weights, saturating=False).run(None, {"image": images})[0], real, atol=2e-5
        )
    same, other = (
        StandIn(weights_of(64), saturating=one).run(None, {"image": images})[0] for one in (True, False)
    )
    np.testing.assert_array_equal(same, other)


@covers(
    "quantize.portability.pairs_are_bounded",
    does="weights that pass never saturate, those that fail do for some activations (simulated int16)",
)
@given(weights=st.lists(st.integers(-128, 127), min_size=2, max_size=7), data=st.data())
def test_the_prediction_is_what_int16_does(weights: list[int], data: st.DataObject) -> None:
    w = np.array([weights], np.int8)
    drawn = data.draw(st.lists(st.integers(0, 255), min_size=len(weights), max_size=len(weights)))
    # The extremes of each sign, and anything in between.
    for x in (drawn, np.where(w[0] > 0, 255, 0), np.where(w[0] < 0, 255, 0)):
        a = np.array([x], np.uint8)
        equal = bool((products(a, w, saturating=True) == products(a, w, saturating=False)).all())
        if pairs_are_bounded(w.astype(np.int32)):
            assert equal
            break
    else:
        positive, negative = (np.where(w * s > 0, 255, 0).astype(np.uint8) for s in (1, -1))
        assert any(
            (products(a, w, saturating=True) != products(a, w, saturating=False)).any()
            for a in (positive, negative)
        )


@pytest.mark.robustness(
    "Numbers",
    "Somebody's int8 model whose weights saturate runs on a CPU without VNNI (kernels simulated in numpy)",
    "the difference from exact kernels is found bit for bit, and told in one line; 7-bit weights show none",
)
@pytest.mark.parametrize("largest", [64, 127])
def test_saturation_is_detected(
    largest: int, images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(largest)
    path = saved(tmp_path, weights)
    on_a_cpu_without_vnni(monkeypatch, weights, saturation)
    found = find_saturation(path, images)
    assert found is not None and found.here is (largest == 127)
    if not found.here:
        assert found == Saturation(Equality(8, 8), PairBound(1, 0)) and found.lines("m") == []
        return
    assert found.bound.unbounded == ("conv",)
    here, elsewhere = found.lines("theirs.onnx")
    assert here.startswith(
        "theirs.onnx: integer products saturate on this CPU, which has no VNNI: scores differ"
    )
    assert f"on {8 - found.equality.equal_images} of 8 images, by at most" in here
    assert elsewhere == (
        "theirs.onnx: weights of 1 of 1 dense operators can saturate on CPUs without VNNI (conv)"
    )
    assert found.to_json()["on_this_cpu"] is True


@pytest.mark.robustness(
    "Numbers",
    "The same model on the CPU that runs the tests",
    "which of its operators can saturate elsewhere is predicted from the weights, whatever the CPU",
)
def test_what_can_saturate_is_predicted_on_any_cpu(images: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, weights_of(127))
    found = find_saturation(path, images)
    assert found is not None
    assert found.bound == pair_bound(path) == PairBound(1, 0, ("conv",))
    assert "can saturate on CPUs without VNNI (conv)" in found.lines("m")[-1]
    float_model = int8_model(weights_of(64))
    del float_model.graph.node[1:4]
    float_model.graph.node[1].input[0] = "mixed"
    float_model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = CHANNELS
    onnx.save(float_model, tmp_path / "fp32.onnx")
    assert find_saturation(tmp_path / "fp32.onnx", images) is None


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "pictures", 24, extent=EXTENT)


@pytest.mark.robustness(
    "Numbers",
    "`evaluate` and `benchmark` of somebody's int8 model on a CPU without VNNI (simulated)",
    "they say that it saturates here, on how many images, and which operators can, as text and as JSON",
)
def test_measuring_commands_tell(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = weights_of(127)
    path = saved(tmp_path, weights)
    on_a_cpu_without_vnni(monkeypatch, weights, saturation, measure)
    config = configured(folders(pictures), folders(pictures), batch_size=4)
    config = config.with_overrides(
        {"evaluation.performance.iteration": 2, "evaluation.performance.warmup": 0}
    )
    measure.run_evaluate(config, input_model=path, verbosity="quiet")
    out = capsys.readouterr().out
    assert "theirs.onnx: integer products saturate on this CPU" in out
    assert "theirs.onnx: weights of 1 of 1 dense operators can saturate" in out
    measure.run_evaluate(config, input_model=path, verbosity="quiet", as_json=True)
    document = json.loads(capsys.readouterr().out)["saturation"]
    assert document["on_this_cpu"] is True and document["compared_images"] > document["equal_images"]
    assert document["can_saturate_without_vnni"] == ["conv"]
    measure.run_benchmark(config, input_model=path, verbosity="quiet")
    assert "integer products saturate on this CPU" in capsys.readouterr().out


@pytest.mark.robustness(
    "Numbers",
    "`evaluate` and `benchmark` of an int8 model that cannot saturate",
    "they say so",
)
def test_measuring_commands_tell_that_nothing_saturates(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, weights_of(64))
    config = configured(folders(pictures), folders(pictures))
    config = config.with_overrides(
        {"evaluation.performance.iteration": 2, "evaluation.performance.warmup": 0}
    )
    for command in (measure.run_evaluate, measure.run_benchmark):
        command(config, input_model=path, verbosity="quiet")
        assert "theirs.onnx: no integer product saturates, on any CPU" in capsys.readouterr().out


@pytest.mark.robustness(
    "Numbers",
    "`predict --compare` with an int8 model whose weights can saturate",
    "a note names the model and its operators",
)
def test_predictions_tell(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = saved(tmp_path, weights_of(127)), tmp_path / "calm.onnx"
    onnx.save(int8_model(weights_of(64)), other)
    config = tmp_path / "c.yaml"
    content = {"calibration": {"dataloader": {"dataset": folders(pictures), "transform": TRANSFORM}}}
    config.write_text(json.dumps({"quantization": content}))
    predictor = make_predictor(path, other=other, config=config)
    *here, line = predictor.saturation(sorted(pictures.rglob("*.png")))
    assert all("saturate on this CPU" in one for one in here) and len(here) <= 1
    assert line == f"{path}: weights of 1 of 1 dense operators can saturate on CPUs without VNNI (conv)"
    image = str(pictures / "0/000.png")
    assert main(["predict", str(other), image, f"--compare={path}", f"--config={config}"]) == 0
    assert f"note: {line}" in capsys.readouterr().err
    assert main(["predict", str(path), image, f"--config={config}"]) == 0
    assert "saturate" not in capsys.readouterr().err


@pytest.mark.robustness(
    "Numbers",
    "`tune --start_from` gets a model whose weights can saturate, or one that ONNX Runtime cannot run",
    "the report warns of the first, naming its operators; the second is only read, and not warned of",
)
def test_given_models_are_looked_at(pictures: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, weights_of(127))
    config = configured(folders(pictures), folders(pictures), calibration_samples=6)
    data = load_data(config, read_signature(onnx.load(path), path), progress=False)
    *here, line = restart._saturation(path, data)
    assert all("saturate on this CPU" in one for one in here) and len(here) <= 1
    assert line == (
        "--start_from theirs.onnx: weights of 1 of 1 dense operators can saturate on CPUs without VNNI (conv)"
    )
    assert restart._saturation(saved(tmp_path, weights_of(64)), data) == ()
    broken = int8_model(weights_of(127))
    broken.graph.node[2].op_type = "NobodyKnowsIt"
    onnx.save(broken, path)
    assert restart._saturation(path, data) == ()


@pytest.mark.robustness(
    "Numbers",
    "A model made for VNNI is verified on a CPU without it (simulated)",
    "the report warns that the scores are not those of its deployment; a portable one fails",
)
def test_verification_warns(images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of(127)
    path = saved(tmp_path, weights)
    labels = np.zeros(len(images), np.int64)
    made: list[Any] = []

    def observed(*arguments: Any, **named: Any) -> Any:
        models, witnesses = arguments[0], named["witnesses"]
        stand_ins = {name: StandIn(weights, saturating=name != "fp32") for name in models}
        exact = {name: StandIn(weights, saturating=False) for name in witnesses}
        made.append(named["witness_images"])
        return evaluate(stand_ins, arguments[1], **{**named, "witnesses": exact, "pairs": ()})

    monkeypatch.setattr("quantize.verify.evaluate", observed)
    for target in (VNNI, PORTABLE):
        found = verify(
            path,
            {"QOperator": path},
            [(images, labels)],
            threads=1,
            probabilities=False,
            target=target,
            latency_rounds=1,
            latency_warmup=0,
        )
        portability = found.artefacts["QOperator"].portability
        assert not portability.equality.bit_equal and not portability.exact
        line = here_line("QOperator", portability.equality)
        assert (line in found.warnings) is (target is VNNI)  # portable ones fail for it: the verdict says so
    assert made == [COMPARED_IMAGES] * 2
    assert not Portability(Equality(1, 1), PairBound(1, 0, ("conv",))).exact
