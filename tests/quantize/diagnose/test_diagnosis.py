"""The diagnosis never costs a finished run its result, and little of its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from calibration.dataloader import DataLoader
from calibration.images import ImageSet
from calibration.transforms import build_pipeline
from quantize.diagnose import diagnosis as module
from quantize.diagnose.diagnosis import measured_sensitivity, measured_signal
from quantize.errors import EngineError
from tests.quantize.models import make_case
from tests.quantize.net import EXTENT, Net

COUNT = 5


def network(batch: int | str = "N") -> onnx.ModelProto:
    net = Net(13, seed=2)
    net.head(net.relu(net.conv(net.relu(net.conv("image", 3, 6)), 6, 6)), 6)
    model = net.model()
    if isinstance(batch, int):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


@pytest.fixture
def loader(tmp_path: Path) -> DataLoader:
    random = np.random.default_rng(1)
    for index in range(COUNT):
        Image.fromarray(random.integers(0, 256, (EXTENT, EXTENT, 3), np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    images = ImageSet(tmp_path, tuple(f"{k}.png" for k in range(COUNT)), (0,) * COUNT, "test")
    return DataLoader(images, build_pipeline({"Rescale": None, "Transpose": {"perm": [2, 0, 1]}}))


@pytest.mark.parametrize(("batch", "images"), [("N", COUNT), (3, 6), (8, 8)])
def test_models_of_any_batch_size_are_looked_into(batch: int | str, images: int, loader: DataLoader) -> None:
    case = make_case(network(batch))
    found, notes = measured_signal(case.prepared, case.inventory, case.qdq(), loader, threads=1)
    assert notes == ()
    assert found.images == images
    assert len(found.tensors) >= 3
    worst = sorted(one.own_sqnr_db for one in found.tensors)[: len(found.histograms)]
    shown = {one.tensor for one in found.histograms}
    assert sorted(one.own_sqnr_db for one in found.tensors if one.pair.tensor in shown) == worst


def test_a_model_that_cannot_be_looked_into_becomes_a_note(
    loader: DataLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(network())

    def fails(*_: Any, **__: Any) -> Any:
        raise EngineError("the runtime is out of sorts")

    monkeypatch.setattr(module, "measure_signal", fails)
    found, notes = measured_signal(case.prepared, case.inventory, case.qdq(), loader, threads=1)
    assert found.tensors == ()
    assert notes == ("signal-to-noise was not measured: the runtime is out of sorts",)


@pytest.mark.parametrize(
    ("multiply_adds", "asked", "calls"),
    [
        (1_000_000, False, 1 + 3),  # cheap
        (3_000_000_000, False, 0),
        (None, False, 0),  # nobody knows
        (3_000_000_000, True, 1 + 3),  # asked for
    ],
)
def test_sensitivity_is_measured_where_it_is_cheap_or_asked_for(
    multiply_adds: int | None, asked: bool, calls: int
) -> None:
    made = []

    def divergence_without(name: str | None) -> float:
        made.append(name)
        return 1.0 if name is None else 0.5

    found = measured_sensitivity(
        ["a", "b", "c"], divergence_without, asked=asked, multiply_adds=multiply_adds
    )
    assert len(made) == calls
    if calls:
        assert found.saved_nats == dict.fromkeys("abc", 0.5)
        assert found.origin == "Measured on the finished model."
    else:
        assert found.saved_nats == {}
        assert "--measure_sensitivity" in found.origin


def test_sensitivity_that_fails_says_so() -> None:
    def fails(name: str | None) -> float:
        raise EngineError("out of memory")

    found = measured_sensitivity(["a"], fails, asked=True, multiply_adds=1)
    assert (found.saved_nats, found.origin) == ({}, "Not measured: out of memory.")
