"""Every command that reads a model, called on one that is hostile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import yaml

from quantize.cli import main
from tests.quantize.image_samples import TRANSFORM, folders, write_folders
from tests.quantize.net import EXTENT, Net

IMAGES = 12


def pixels() -> npt.NDArray[np.float32]:
    """Eight images that no run has seen, as the transforms make them: 0 to 1."""
    return np.random.default_rng(8).random((8, 3, EXTENT, EXTENT)).astype(np.float32)


def small_classifier(seed: int = 0, *, opset: int = 13) -> onnx.ModelProto:
    """Two convolutions and a Gemm: 10 x 10 images in, 5 scores out."""
    net = Net(opset, seed=seed)
    x = net.relu(net.conv("image", 3, 6))
    x = net.relu(net.conv(x, 6, 6))
    net.head(x, 6)
    return net.model()


@dataclass(frozen=True)
class Bench:
    """Where the commands work.

    Attributes:
        folder: where the model under test is put, with nothing else in it.
        out: where results would go.
        config, image, good: a configuration, an image and a model that work.
    """

    folder: Path
    out: Path
    config: Path
    image: Path
    good: Path

    @property
    def model(self) -> Path:
        return self.folder / "net.onnx"

    def put(self, model: onnx.ModelProto | bytes) -> Path:
        """Writes the model under test, unchecked."""
        self.model.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return self.model


@dataclass(frozen=True)
class Materials:
    """What the tests of a module share: the same for all, and only read."""

    config: Path
    image: Path
    good: Path


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    root = tmp_path_factory.mktemp("materials")
    images = write_folders(root / "images", IMAGES, extent=EXTENT)
    loader = {"dataset": folders(images), "transform": TRANSFORM}
    content = {
        "quantization": {"calibration": {"sampling_size": 6, "allow_overlap": True, "dataloader": loader}},
        "evaluation": {
            "accuracy": {"dataloader": loader},
            "performance": {"warmup": 1, "iteration": 2, "dataloader": {**loader, "batch_size": 1}},
        },
        "tuning": {"accuracy_criterion": {"relative": 0.99}},
        "refine": {"effort": "none"},
    }
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    good = root / "good.onnx"
    onnx.save(small_classifier(), good)
    return Materials(config, images / "0" / "000.png", good)


@pytest.fixture
def bench(materials: Materials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name in ("model", "out", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield Bench(tmp_path / "model", tmp_path / "out", materials.config, materials.image, materials.good)
    # Whatever was done: nothing was written anywhere but into the output folder.
    assert list((tmp_path / "here").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} >= {"model", "out", "here"}


Words = Callable[[Path, Bench], list[str]]

COMMANDS: Mapping[str, Words] = {
    "tune": lambda m, b: [
        "tune", f"--input_model={m}", f"--config={b.config}", f"--output_model={b.out}",
    ],
    "tune --start_from": lambda m, b: [
        "tune", f"--input_model={b.good}", f"--config={b.config}", f"--output_model={b.out}",
        "--refine=fast", f"--start_from={m}",
    ],
    "evaluate": lambda m, b: ["evaluate", f"--input_model={m}", f"--config={b.config}"],
    "benchmark": lambda m, b: ["benchmark", f"--input_model={m}", f"--config={b.config}"],
    "predict": lambda m, b: ["predict", str(m), str(b.image), f"--config={b.config}"],
    "predict --compare": lambda m, b: [
        "predict", str(b.good), str(b.image), f"--config={b.config}", f"--compare={m}",
    ],
    "inspect": lambda m, b: ["inspect", str(m)],
    "inspect, second": lambda m, b: ["inspect", str(b.good), str(m)],
    "sensitivity": lambda m, b: [
        "sensitivity", str(m), f"--config={b.config}", f"--output={b.out / 's.json'}",
    ],
    "package": lambda m, b: ["package", str(m), f"--output={b.out}"],
    "export ort": lambda m, b: ["export", "ort", str(m), f"--output={b.out}"],
    "export uint8": lambda m, b: ["export", "uint8", str(m), f"--output={b.out}", f"--config={b.config}"],
    "export triton": lambda m, b: ["export", "triton", str(m), f"--output={b.out}"],
    "prepare model": lambda m, b: ["prepare", "model", str(m)],
}  # fmt: skip

# Those that only look at a file, and so also tell of models that they could not work with.
LOOKING = ("inspect", "inspect, second", "prepare model")
WORKING = tuple(name for name in COMMANDS if name not in LOOKING)

# What reads its subject as an image classifier; package wants a report first.
CLASSIFYING = (
    "tune",
    "evaluate",
    "benchmark",
    "predict",
    "predict --compare",
    "sensitivity",
    "export ort",
    "export uint8",
)


REFUSED = "every command refuses it in one line that names what is wrong and where"


def row(done: str, does: str = REFUSED, *, times: int = len(COMMANDS)) -> pytest.MarkDecorator:
    """A row of docs/robustness.md of what is tried with every command, if `times` does not say otherwise."""
    return pytest.mark.robustness("Models", done, does, times=times)


def error_of(
    name: str, model: Path, bench: Bench, capsys: pytest.CaptureFixture[str], *, codes: tuple[int, ...] = (2,)
) -> str:
    """Runs a command that has to fail cleanly; returns its one line."""
    capsys.readouterr()
    code = main(COMMANDS[name](model, bench))
    out, err = capsys.readouterr()
    assert code in codes, (name, code, out, err)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, (name, err)
    (line,) = lines
    assert "internal error" not in line and "Traceback" not in err, (name, err)
    assert line.isprintable(), (name, line)
    assert not list(bench.out.iterdir()), name
    return line.removeprefix("error: ")


def refused(
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    *phrases: str,
    commands: tuple[str, ...] = tuple(COMMANDS),
    codes: tuple[int, ...] = (2,),
) -> None:
    """Checks that commands refuse the model under test in a line that names the file and has the phrases."""
    before = bench.model.read_bytes() if bench.model.stat().st_size < 1 << 20 else b""
    for name in commands:
        line = error_of(name, bench.model, bench, capsys, codes=codes)
        assert str(bench.model) in line, (name, line)
        for phrase in phrases:
            assert phrase in line, (name, line)
    assert not before or bench.model.read_bytes() == before


def tuned(bench: Bench, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """Tunes the model under test; returns the report."""
    code = main([*COMMANDS["tune"](bench.model, bench), *more])
    assert code == 0, capsys.readouterr().err
    (path,) = bench.out.glob("*.json")
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report
