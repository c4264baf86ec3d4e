"""The bundled example through the whole program: the files, what they say, and what others say of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from PIL import Image

from quantize.demo_data import DigitsDataset
from quantize.report.build import SCHEMA_PATH
from tests.end_to_end.conftest import Run, Runner

FORMATS = {"QOperator": "-int8", "QDQ": "-qdq"}


@pytest.fixture(scope="module")
def failing(project_root: Path, digits: DigitsDataset, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a run that must fail: the same network, one of its tensors beyond what one scale can hold."""
    folder = tmp_path_factory.mktemp("failing")
    config = (project_root / "configs" / "demo_digits.yaml").read_text(encoding="utf-8")
    (folder / "c.yaml").write_text(config.replace("<DIR>", str(digits.root)), encoding="utf-8")
    model = onnx.load(project_root / "examples" / "digits" / "digits-mobilenetv2.onnx")
    _unbalance(model.graph)
    onnx.save(model, folder / "fragile.onnx")
    return [
        f"--input_model={folder / 'fragile.onnx'}",
        f"--config={folder / 'c.yaml'}",
        "--max_trials=1",
        "--refine=none",
        "--eval_samples=150",
    ]


def _unbalance(graph: onnx.GraphProto) -> None:
    """Makes channel 0 between two dense convolutions a thousand times larger; its readers undo that."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers = {
        name: [n for n in graph.node if name in n.input] for node in graph.node for name in node.output
    }
    for producer in graph.node:
        consumers = readers.get(producer.output[0], []) if producer.op_type == "Conv" else []
        if len(consumers) == 1 and consumers[0].op_type == "Conv":
            for name, where in (
                (producer.input[1], (0,)),
                (producer.input[2], (0,)),
                (consumers[0].input[1], (slice(None), 0)),
            ):
                value = numpy_helper.to_array(constants[name]).copy()
                value[where] *= 1e3 if where == (0,) else 1e-3
                constants[name].CopyFrom(numpy_helper.from_array(value, name))


def test_passes_and_leaves_exactly_its_files(demo: Run) -> None:
    assert demo.code == 0, demo.stderr
    assert sorted(path.name for path in demo.folder.iterdir()) == [
        "digits-mobilenetv2-int8.onnx",
        "digits-mobilenetv2-qdq.onnx",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert "PASS: " in demo.stdout
    assert "Traceback" not in demo.stderr


def test_report_follows_its_schema(demo: Run) -> None:
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(demo.report)


def test_every_weighted_operator_is_an_integer_kernel(demo: Run) -> None:
    for name in FORMATS:
        kernels = demo.report["models"]["int8"][name]["kernels"]
        assert kernels["integer_weighted"] == kernels["weighted"] == 53
        assert kernels["float_weighted_operators"] == []


def test_formats_are_one_model(demo: Run) -> None:
    equality = demo.report["models"]["formats_equality"]
    assert equality["images"] == 797
    assert equality["bit_equal"] is True


@pytest.mark.parametrize(("name", "suffix"), FORMATS.items())
def test_reported_accuracy_is_what_the_file_scores(
    demo: Run, digits: DigitsDataset, name: str, suffix: str
) -> None:
    """Counted again without any of our reading, evaluating or session code."""
    session = ort.InferenceSession(demo.model(suffix), providers=["CPUExecutionProvider"])
    correct = 0
    paths = sorted(digits.evaluation.rglob("*.png"))
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
        image = ((pixels - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1)[None]
        (scores,) = session.run(None, {session.get_inputs()[0].name: image})
        correct += int(scores[0].argmax() == int(path.parent.name))
    accuracy = demo.report["models"]["int8"][name]["accuracy"]
    # An image whose best two classes are within float32 rounding of each other may fall either way.
    assert abs(accuracy["top1_correct"] - correct) <= 1
    assert accuracy["images"] == len(paths) == 797


@pytest.mark.parametrize(("name", "suffix"), FORMATS.items())
def test_models_say_what_made_them(demo: Run, name: str, suffix: str) -> None:
    model = onnx.load(demo.model(suffix))
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["quantize.format"] == name
    assert facts["quantize.target"] == "portable"
    assert facts["quantize.input_model_sha256"] == demo.report["run"]["input_model"]["sha256"]
    assert facts["quantize.package.neural-compressor"] == "3.7.1"
    assert len(facts["quantize.config_sha256"]) == 64


def test_calibration_and_evaluation_images_are_apart(demo: Run) -> None:
    images = demo.report["images"]
    assert images["overlap_count"] == 0
    assert images["calibration"]["count"] == 100
    assert images["calibration"]["sha256"] != images["evaluation"]["sha256"]


@pytest.fixture(scope="module")
def again(run_program: Runner, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The example once more: with one thread, quietly, and into a file that is named."""
    file = tmp_path_factory.mktemp("named") / "a b-int8.onnx"
    return run_program("--demo", "--threads=1", "--quiet", file=file)


def test_same_bytes_with_one_thread_as_with_two(demo: Run, again: Run) -> None:
    for suffix in FORMATS.values():
        assert again.model(suffix).read_bytes() == demo.model(suffix).read_bytes()


def test_one_file_name_gives_the_pair_beside_it(again: Run) -> None:
    assert again.code == 0
    assert sorted(path.name for path in again.folder.iterdir()) == [
        "a b-int8-report.html",
        "a b-int8-report.json",
        "a b-int8-report.md",
        "a b-int8.onnx",
        "a b-qdq.onnx",
    ]


def test_quiet_prints_the_verdict_alone(again: Run, run_program: Runner) -> None:
    assert again.stdout.startswith("PASS: QOperator and QDQ: ")
    assert again.stdout.count("\n") == 1
    assert again.stderr == ""
    run = run_program("--demo", "--quiet", "--quant_format=QDQ", "--refine=none", "--no_html")
    assert run.stdout.startswith("PASS: QDQ: ")
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""
    assert [path.name for path in run.folder.glob("*.onnx")] == ["digits-mobilenetv2-qdq.onnx"]


def test_missed_tolerance_keeps_what_was_there(
    run_program: Runner, failing: list[str], tmp_path: Path
) -> None:
    earlier = tmp_path / "fragile-int8.onnx"
    earlier.write_bytes(b"an earlier result")
    run = run_program(*failing, folder=tmp_path)
    assert run.code == 1, run.stderr
    assert "FAIL: " in run.stdout
    assert earlier.read_bytes() == b"an earlier result"
    reports = [f"report-failed.{suffix}" for suffix in ("html", "json", "md")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [earlier.name, *reports]
    assert f"{earlier} is from an earlier run" in run.stdout
    report = json.loads((tmp_path / "report-failed.json").read_text(encoding="utf-8"))
    assert report["models"]["int8"]["QDQ"]["path"] is None
    assert report["tuning"]["stopped_by"] == "trials"


def test_failed_models_are_kept_only_on_request(run_program: Runner, failing: list[str]) -> None:
    run = run_program(*failing, "--keep_failed")
    assert run.code == 1, run.stderr
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "fragile-int8-failed.onnx",
        "fragile-qdq-failed.onnx",
        "report-failed.html",
        "report-failed.json",
        "report-failed.md",
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing(
    number: signal.Signals, code: int, project_root: Path, tmp_path: Path
) -> None:
    """As soon as the program says that it measures ranges: well inside the work."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(project_root), "TMPDIR": str(temporary)}
    # A shell that runs the tests in the background ignores SIGINT, and its children inherit that.
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from quantize.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    # With few images to judge, of all that are there: it measures ranges as soon as it has begun.
    flags = ["--demo", "--eval_samples=50", f"--output_model={tmp_path / 'out'}"]
    command = [sys.executable, "-c", start, "tune", *flags]
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measuring ranges"):
            process.send_signal(number)
            break
    _, rest = process.communicate(timeout=60)
    assert process.returncode == code, rest
    assert "Traceback" not in rest
    assert not (tmp_path / "out").exists()
    assert list(temporary.iterdir()) == []
