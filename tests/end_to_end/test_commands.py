"""The commands around the main job, on what the main job made: the bundled digits, and the real network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.decode import load_image
from quantize.demo_data import DigitsDataset
from quantize.preprocessing import read_preprocessing
from quantize.session import make_session, outputs, run
from tests.end_to_end.conftest import Run

Program = Callable[..., Any]
SUFFIXES = ["-int8", "-qdq"]
KINDS = {"-int8": "QOperator", "-qdq": "QDQ"}


@pytest.fixture
def program(project_root: Path, tmp_path: Path) -> Program:
    """Runs a command with --json, as another program would, and reads what it says."""

    def call(*words: object, code: int = 0) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(project_root)}
        done = subprocess.run(
            [sys.executable, "-m", "quantize", *map(str, words), "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    return call


@pytest.fixture
def copied(demo: Run, tmp_path: Path) -> Path:
    """The folder that the demo wrote, where tests may write."""
    return Path(shutil.copytree(demo.folder, tmp_path / "made"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_predict_gets_as_many_digits_right_as_the_report_says(
    suffix: str, demo: Run, digits: DigitsDataset, program: Program
) -> None:
    document = program(
        "predict", demo.model(suffix), digits.evaluation, "--config=demo_digits.yaml", "--top_k=1"
    )
    right = sum(
        Path(image["image"]).parent.name == str(image["predictions"][0]["class"])
        for image in document["images"]
    )
    accuracy = demo.report["models"]["int8"][KINDS[suffix]]["accuracy"]
    assert (right, len(document["images"])) == (accuracy["top1_correct"], accuracy["images"])


def test_predict_agrees_with_the_report_on_how_often_two_models_agree(
    demo: Run, digits: DigitsDataset, program: Program, project_root: Path
) -> None:
    fp32 = project_root / "examples/digits/digits-mobilenetv2.onnx"
    document = program(
        "predict",
        fp32,
        digits.evaluation,
        "--config=demo_digits.yaml",
        f"--compare={demo.model('-int8')}",
    )
    measured = demo.report["models"]["int8"]["QOperator"]
    images = document["summary"]["images"]
    assert 1 - document["summary"]["disagreements"] / images == pytest.approx(measured["agreement_fraction"])
    # Batches of another size round float32 sums differently.
    assert document["summary"]["mean_kl_nats"] == pytest.approx(measured["kl_nats"], rel=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_inspect_counts_what_the_report_counts(suffix: str, demo: Run, program: Program) -> None:
    document = program("inspect", demo.model(suffix))
    kernels = demo.report["models"]["int8"][KINDS[suffix]]["kernels"]
    assert document["runtime"]["integer_operators"] == kernels["integer"]
    assert document["runtime"]["integer_weighted"] == kernels["integer_weighted"]
    assert document["metadata"]["quantize.format"] == KINDS[suffix]
    name = document["inputs"][0]["name"]
    tensor = program("inspect", demo.model(suffix), f"--tensor={name}")["tensor"]
    # Pixels come normalized to -1…1.
    low, high = tensor["quantization"]["range"]
    assert -1.1 < low < -0.9
    assert 0.9 < high < 1.1


def test_the_two_spellings_differ_in_operators_and_in_no_number(demo: Run, program: Program) -> None:
    found = program("inspect", demo.model("-int8"), demo.model("-qdq"), code=1)["differences"]
    whats = [item["what"] for item in found]
    assert "operators.QLinearConv" in whats
    assert "metadata.quantize.format" in whats
    assert [what for what in whats if what.startswith(("tensors.", "constants."))] == []


def test_package_tells_what_the_report_says(
    copied: Path, demo: Run, program: Program, tmp_path: Path
) -> None:
    models = sorted(copied.glob("*.onnx"))
    document = program("package", *models, f"--output={tmp_path / 'zoo'}")
    for made, suffix in zip(document["packages"], SUFFIXES, strict=True):
        accuracy = demo.report["models"]["int8"][KINDS[suffix]]["accuracy"]
        assert f"| {100 * accuracy['top1_fraction']:.2f} |" in made["row"]
        assert f"{demo.report['models']['int8'][KINDS[suffix]]['speed_up']:.2f}x" in made["sentence"]
    again = program("package", *models, f"--output={tmp_path / 'again'}")
    for one, other in zip(document["files"], again["files"], strict=True):
        assert Path(one).read_bytes() == Path(other).read_bytes(), one


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_exports_compute_the_same(
    suffix: str, demo: Run, digits: DigitsDataset, program: Program, tmp_path: Path
) -> None:
    model, out = demo.model(suffix), f"--output={tmp_path}"
    images = sorted(digits.evaluation.rglob("*.png"))[:40]
    preprocessing = read_preprocessing(Path("demo_digits.yaml"), (None, 3, 64, 64))
    batch = np.stack([preprocessing.pipeline(load_image(path), 0)[0] for path in images])
    expected = outputs(make_session(model, threads=1), batch)

    converted = program("export", "ort", model, out)
    assert np.array_equal(
        outputs(make_session(Path(converted["model"]).read_bytes(), threads=1), batch), expected
    )

    pixels = program("export", "uint8", model, out, "--config=demo_digits.yaml", "--images", *images[:5])
    assert pixels["agreement"]["bit_equal"]
    raw = np.stack([np.asarray(load_image(path)) for path in images])
    session = make_session(pixels["model"], threads=1)
    assert np.array_equal(run(session, [session.get_outputs()[0].name], {"pixels": raw})[0], expected)

    served = program("export", "triton", pixels["model"], f"--output={tmp_path / 'models'}")
    assert served["inputs"] == [{"name": "pixels", "data_type": "TYPE_UINT8", "dims": [64, 64, 3]}]
    (file,) = (name for name in served["files"] if name.endswith("/1/model.onnx"))
    session = make_session(file, threads=1)
    assert np.array_equal(run(session, [session.get_outputs()[0].name], {"pixels": raw})[0], expected)


def test_prepare_checks_the_bundled_model(program: Program, project_root: Path) -> None:
    document = program("prepare", "model", project_root / "examples/digits/digits-mobilenetv2.onnx")
    assert not document["downloaded"]
    assert document["known"] is None


def test_tune_evaluate_and_benchmark_speak_json(
    demo: Run, digits: DigitsDataset, program: Program, project_root: Path, tmp_path: Path
) -> None:
    plain = ("--quant_format=QDQ", "--refine=none", "--no_html")
    document = program("tune", "--demo", f"--output_model={tmp_path / 'out'}", *plain)
    assert document["passed"]
    assert document["report"]["verdict"]["sentence"] == document["sentence"]
    assert json.loads(Path(document["report_path"]).read_text(encoding="utf-8")) == document["report"]
    flags = [f"--input_model={document['models']['QDQ']}", "--config=demo_digits.yaml"]
    flags.append(f"--dataset_location={digits.evaluation}")
    measured = program("benchmark", *flags, "--iteration=3")
    assert measured["latency"]["median_ms"] > 0
    evaluated = program("evaluate", *flags, "--eval_samples=50", "--allow_overlap")
    assert evaluated["images"] == 50
    assert evaluated["top1_fraction"] > 0.9


def test_real_predictions(flagship: Run, shared_dir: Path, program: Program) -> None:
    sample = shared_dir / "imagenet-sample"
    image = sample / "images" / "n01440764_tench.JPEG"
    document = program("predict", flagship.model("-int8"), image, f"--labels={sample / 'synset.txt'}")
    (found,) = document["images"]
    best = found["predictions"][0]
    assert (best["class"], best["wnid"], best["name"]) == (0, "n01440764", "tench, Tinca tinca")
    assert len(found["predictions"]) == 5


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_raw_pixels_of_real_photographs_give_the_same_bits(
    suffix: str, flagship: Run, shared_dir: Path, program: Program, tmp_path: Path
) -> None:
    images = sorted((shared_dir / "imagenet-sample" / "images").iterdir())[:50]
    made = program("export", "uint8", flagship.model(suffix), f"--output={tmp_path}", "--images", *images)
    assert made["agreement"] == {
        "images": 54,
        "equal_images": 54,
        "max_abs_difference": 0.0,
        "bit_equal": True,
    }
    assert [step["name"] for step in made["left_for_the_app"]] == ["ResizeShortest", "CenterCrop"]


def test_the_real_package(flagship: Run, program: Program, tmp_path: Path) -> None:
    document = program(
        "package", flagship.model("-int8"), "--title=MobileNet v2-1.0-int8", f"--output={tmp_path / 'zoo'}"
    )
    (made,) = document["packages"]
    accuracy = flagship.report["models"]["int8"]["QOperator"]["accuracy"]
    assert made["row"].startswith("|MobileNet v2-1.0-int8| [3.5 MB](model/")
    assert made["row"].endswith(
        f"| 13 | {100 * accuracy['top1_fraction']:.2f} | {100 * accuracy['top5_fraction']:.2f} |"
    )
    (features,) = made["manifest"]["metadata"]["extra_ports"]["features"]
    assert features["shape"] == [1, 1280]
