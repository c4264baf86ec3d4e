"""Configurations, hostile or mistaken: one line each, with the path of the field and the line of the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quantize.cli import main
from quantize.config import SHIPPED_FOLDER, Config, load_config
from quantize.errors import InputError
from tests.robustness.configuration_files import expect, written

ROW = pytest.mark.robustness
AREA = "Configuration"

# Fields that are wrong, or contradict each other.

_TRANSFORM = "quantization:\n  calibration:\n    dataloader:\n      transform:\n        "
_AT = "quantization.calibration.dataloader.transform"
_CRITERION = "tuning:\n  accuracy_criterion:\n    "
_AC = "tuning.accuracy_criterion"

WRONG: dict[str, list[tuple[str, int, str, str]]] = {
    "A tolerance is NaN, infinite, negative, 1 or more, text, or a truth value": [
        (f"{_CRITERION}relative: .nan", 3, f"{_AC}.relative", "expected a finite number"),
        (f"{_CRITERION}relative: 'nan'", 3, f"{_AC}.relative", "expected a fraction"),
        (f"{_CRITERION}absolute: .inf", 3, f"{_AC}.absolute", "expected a finite number"),
        (f"{_CRITERION}absolute: 'inf'", 3, f"{_AC}.absolute", "expected a fraction"),
        (f"{_CRITERION}relative: -0.01", 3, f"{_AC}.relative", "expected a fraction"),
        (f"{_CRITERION}relative: 1", 3, f"{_AC}.relative", 'write 0.01 or "1%"'),
        (f"{_CRITERION}relative: much", 3, f"{_AC}.relative", "got 'much'"),
        (f"{_CRITERION}relative: yes", 3, f"{_AC}.relative", "got True (YAML reads yes"),
        (f"{_CRITERION}relative: 0x1p3", 3, f"{_AC}.relative", "expected a fraction"),
    ],
    "A count is negative, zero, a fraction, text, or absurd": [
        (
            "quantization:\n  calibration:\n    sampling_size: -5",
            3,
            "quantization.calibration.sampling_size",
            "-5",
        ),
        (
            "quantization:\n  calibration:\n    sampling_size: 0",
            3,
            "quantization.calibration.sampling_size",
            "0",
        ),
        (
            "quantization:\n  calibration:\n    sampling_size: 1.5",
            3,
            "quantization.calibration.sampling_size",
            "",
        ),
        (
            "tuning:\n  exit_policy:\n    max_trials: 0",
            3,
            "tuning.exit_policy.max_trials",
            "at least 1, got 0",
        ),
        ("tuning:\n  exit_policy:\n    timeout: -1", 3, "tuning.exit_policy.timeout", "at least 0, got -1"),
        ("tuning:\n  exit_policy:\n    timeout: 1.0e+999", 3, "tuning.exit_policy.timeout", "finite number"),
        (
            "tuning:\n  exit_policy:\n    timeout: '5'",
            3,
            "tuning.exit_policy.timeout",
            "write 5.0 without quotes",
        ),
        ("threads: 1_000_000", 1, "threads", "at most 1024, got 1000000"),
        ("refine:\n  selection_samples: -1", 2, "refine.selection_samples", "at least 0"),
        ("cache:\n  size: 0", 2, "cache.size", "more than 0, got 0"),
        ("cache:\n  size: 1.0e+300", 2, "cache.size", "at most 1000000"),
        (
            "evaluation:\n  performance:\n    configs:\n      num_of_instance: 100000",
            4,
            "evaluation.performance.configs.num_of_instance",
            "at most 1024",
        ),
    ],
    "A transform is unknown, misspelt, has unknown or wrong parameters, or makes images without measure": [
        (f"{_TRANSFORM}Rezise: {{size: 2}}", 5, f"{_AT}.Rezise", "did you mean 'Resize'"),
        (f"{_TRANSFORM}RandomCrop: {{}}", 5, f"{_AT}.RandomCrop", "is not known"),
        (f"{_TRANSFORM}Resize:\n          size: -2", 6, f"{_AT}.Resize.size", "is not a size"),
        (f"{_TRANSFORM}Resize:\n          size: 100000", 6, f"{_AT}.Resize.size", "is too large"),
        (f"{_TRANSFORM}Resize:\n          sice: 2", 6, f"{_AT}.Resize.sice", "did you mean 'size'"),
        (f"{_TRANSFORM}Resize:\n          size: [2, 3, 4]", 6, f"{_AT}.Resize.size", "is not a size"),
        (f"{_TRANSFORM}Resize:", 5, f"{_AT}.Resize", "parameter 'size' is missing"),
        (f"{_TRANSFORM}Resize: 7", 5, f"{_AT}.Resize", "is not a mapping"),
        (f"{_TRANSFORM}CenterCrop:\n          size: 999999999", 6, f"{_AT}.CenterCrop.size", "too large"),
        (f"{_TRANSFORM}Normalize:\n          std: 0", 6, f"{_AT}.Normalize.std", "too small"),
        (f"{_TRANSFORM}Normalize:\n          mean: [.nan]", 6, f"{_AT}.Normalize.mean.0", "finite"),
        (f"{_TRANSFORM}Normalize:\n          mean: a", 6, f"{_AT}.Normalize.mean", "not a finite number"),
        (f"{_TRANSFORM}Transpose:\n          perm: [0, 0, 1]", 6, f"{_AT}.Transpose.perm", "is not an order"),
        (f"{_TRANSFORM}[Resize]", 4, _AT, "expected transforms"),
        (f"{_TRANSFORM}{{}}", 4, _AT, "expected transforms"),
    ],
    "Two fields contradict each other": [
        (f"{_CRITERION}relative: 0.01\n    absolute: 0.01", 2, _AC, "are both given; keep one"),
        (
            "evaluation:\n  accuracy:\n    sampling_size: 5\n    iteration: 5",
            2,
            "evaluation.accuracy",
            "both limit the images",
        ),
        (
            "quantization:\n  target: tensorrt\n  quant_format: QOperator",
            1,
            "quantization",
            "contradict each other",
        ),
        (
            "evaluation:\n  accuracy:\n    metric: {topk: 5, Accuracy: {}}",
            3,
            "evaluation.accuracy.metric",
            "contradict each other",
        ),
        (
            "evaluation:\n  accuracy:\n    dataloader:\n      dataset:\n        ImageFolder: {root: /x}\n"
            "        ImagenetRaw: {data_path: /x}",
            4,
            "evaluation.accuracy.dataloader.dataset",
            "are both given; keep one",
        ),
    ],
    "A field is unknown or misspelt, a section is a value, or a value a section": [
        ("tunning: {}", 1, "tunning", "did you mean 'tuning'"),
        ("tuning:\n  strategy:\n    nmae: basic", 3, "tuning.strategy.nmae", "did you mean 'name'"),
        ("tuning: 7", 1, "tuning", "expected fields"),
        ("tuning: [a]", 1, "tuning", "expected fields"),
        ("model:\n  name: {a: 1}", 2, "model.name", "expected text"),
        ("model:\n  name: on", 2, "model.name", "expected text, got True (YAML reads yes"),
        ("images:\n  on_bad_image: ignore", 2, "images.on_bad_image", "expected 'stop' or 'skip'"),
        ("images:\n  follow_links: 1", 2, "images.follow_links", "expected true or false, got 1"),
    ],
    "A pattern of operator names is not valid, or could take for ever on a long name": [
        ("quantization:\n  op_wise:\n    '(a+)+b': {}", 2, "quantization.op_wise", "for ever"),
        ("quantization:\n  op_wise:\n    '(a|aa)*': {}", 2, "quantization.op_wise", "for ever"),
        ("quantization:\n  op_wise:\n    '((x[+]*)|y){9,}z': {}", 2, "quantization.op_wise", "for ever"),
        ("quantization:\n  op_wise:\n    '(': {}", 2, "quantization.op_wise", "is not a valid pattern"),
        (f"quantization:\n  op_wise:\n    '{'a' * 600}': {{}}", 2, "quantization.op_wise", "600 characters"),
    ],
}


@pytest.mark.parametrize(
    ("text", "line", "field", "problem"),
    [
        pytest.param(
            *case,
            id=f"{case[2].rpartition('.')[2]}-{number}",
            marks=ROW(AREA, done, "Refused in one line with the line and the path of the field"),
        )
        for done, cases in WRONG.items()
        for number, case in enumerate(cases)
    ],
)
def test_wrong_fields(text: str, line: int, field: str, problem: str, tmp_path: Path) -> None:
    expect(tmp_path, text, line, field, problem)


@pytest.mark.parametrize(
    "pattern", ["Conv_[0-9]+", "(Conv|Gemm)_1", "(stem/)?Conv.*", "a{2}", r"\(a+\)+", "Gather_*"]
)
def test_ordinary_patterns_are_accepted(pattern: str) -> None:
    Config.from_mapping({"quantization": {"op_wise": {pattern: {"weight": {"dtype": ["fp32"]}}}}})


FLAGS = [
    ("--tolerable_loss=nan", "--tolerable_loss: expected a fraction"),
    ("--tolerable_loss=-1%", "--tolerable_loss: expected a fraction"),
    ("--calibration_samples=-5", "--calibration_samples: expected a number of images from 1, got -5"),
    ("--max_trials=0", "--max_trials: expected at least 1, got 0"),
    ("--timeout=nan", "--timeout: expected a number of seconds, got 'nan'"),
    ("--seed=-1", "--seed: expected at least 0, got -1"),
    ("--threads=100000000", "--threads: expected at most 1024, got 100000000"),
    ("--cache_size=1e300", "--cache_size: expected at most 1000000"),
    ("--ranges=narrow", "--ranges: 'narrow' is no rule"),
    ("--on_bad_image=ignore", "--on_bad_image: expected stop or skip, got 'ignore'"),
    (f"--config={'x' * 5000}", "--config: expected a path, got a name of 5000 bytes"),
    (f"--config={'x/' * 5000}", "no such configuration"),
    (f"--seed={'9' * 5000}", "--seed: expected a whole number"),
]


@ROW(
    AREA,
    "The value of a flag is NaN, negative, absurd, or thousands of characters long",
    "One line with the flag",
)
@pytest.mark.parametrize(("flag", "expected"), FLAGS, ids=[flag[:20] for flag, _ in FLAGS])
def test_values_of_flags(
    flag: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "model: {name: a}\n")
    (tmp_path / "m.onnx").touch()
    common = [f"--input_model={tmp_path}/m.onnx", f"--output_model={tmp_path}/out"]
    config = [] if flag.startswith("--config") else [f"--config={tmp_path}/c.yaml"]
    assert main(["tune", *common, *config, flag]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err
    assert len(err) < 2200


DAMAGES = 150


def _flipped(random: np.random.Generator, content: bytearray) -> None:
    content[int(random.integers(len(content)))] = int(random.integers(256))


def _cut(random: np.random.Generator, content: bytearray) -> None:
    del content[int(random.integers(len(content))) :]


def _moved(random: np.random.Generator, content: bytearray) -> None:
    start, place = sorted(random.integers(0, len(content), 2).tolist())
    content[start:start] = content[place : place + 40]


@ROW(
    AREA,
    "A configuration that ships is damaged at random: bytes changed, the end cut off, pieces moved",
    "Read, or refused in one line; nothing else comes out",
    times=DAMAGES,
)
@pytest.mark.parametrize("damage", [_flipped, _cut, _moved], ids=lambda damage: damage.__name__[1:])
def test_damaged_configurations(
    damage: Callable[[np.random.Generator, bytearray], None], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    shutil.copy(SHIPPED_FOLDER / "demo_digits.yaml", path)
    whole = path.read_bytes()
    random = np.random.default_rng(8)
    for _ in range(DAMAGES):
        content = bytearray(whole)
        damage(random, content)
        path.write_bytes(content)
        try:
            load_config(path)
        except InputError as error:
            assert "\n" not in str(error)
            assert str(path.name) in str(error)
