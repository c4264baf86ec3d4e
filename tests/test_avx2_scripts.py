"""The scripts that emulate a CPU without VNNI: what they find is what the portability check rests on."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantize.export import to_qoperator
from quantize.target import PORTABLE, VNNI
from tests.quantize.image_samples import CLASSES, EXTENT, TRANSFORM, folders, write_folders
from tests.quantize.models import zoo_case
from tests.quantize.net import Net

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

needs_valgrind = pytest.mark.skipif(
    shutil.which("valgrind") is None or platform.machine() != "x86_64",
    reason="needs valgrind on x86-64 (Debian: apt-get install valgrind)",
)


def run_script(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.robustness(
    "Numbers",
    "Portable and naive 8-bit models run on an emulated CPU without VNNI (valgrind)",
    "portable ones are exact to the bit; saturation of the others is found on that CPU itself",
)
@needs_valgrind
def test_portable_models_are_equal_on_avx2_and_eight_bit_ones_are_not(tmp_path: Path) -> None:
    models = {}
    for target in (PORTABLE, VNNI):
        # Small random weights seldom saturate; channels of one large magnitude always do.
        qdq = zoo_case("fire_module", target=target).qdq()
        for tensor in qdq.graph.initializer:
            if target is VNNI and tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4:
                signs = np.where(onnx.numpy_helper.to_array(tensor) < 0, -127, 127).astype(np.int8)
                tensor.CopyFrom(onnx.numpy_helper.from_array(signs, tensor.name))
        models |= {f"{target.name}-qdq": qdq, f"{target.name}-int8": to_qoperator(qdq)}
    paths = [tmp_path / f"{name}.onnx" for name in models]
    for path, model in zip(paths, models.values(), strict=True):
        onnx.save(model, path)
    done = run_script("check_on_avx2.py", "--count=3", *paths)
    assert done.returncode == 1, done.stderr
    counts = re.findall(r"^(\S+)\.onnx: (\d) of 3 images bit-equal", done.stdout, re.MULTILINE)
    found = {name: int(count) for name, count in counts}
    assert found["portable-qdq"] == found["portable-int8"] == 3
    assert found["vnni-qdq"] < 3
    assert found["vnni-int8"] < 3
    # The same comparison within the emulated CPU, as `evaluate` and `verify` make it wherever they run.
    there = dict(re.findall(r"^(\S+)\.onnx: .* itself: (\d+) saturate$", done.stdout, re.MULTILINE))
    assert there["portable-qdq"] == there["portable-int8"] == "0"
    assert int(there["vnni-qdq"]) > 0
    assert int(there["vnni-int8"]) > 0
    assert run_script("check_on_avx2.py", "--count=1", paths[0]).returncode == 0


@pytest.mark.robustness(
    "Numbers",
    "Every pair of weights of some forty kernels is made to saturate on an emulated CPU without VNNI",
    "exactly the pairs saturate that the structural prediction bounds",
)
@needs_valgrind
def test_kernels_add_exactly_the_pairs_that_are_checked() -> None:
    done = run_script("probe_saturation.py")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    dense = {label: found for label, found in lines.items() if label.startswith(("Conv", "Q", "MatMul"))}
    assert len(dense) > 30
    for label, found in dense.items():
        if "depthwise" in label:
            assert found == "none", label
            continue
        pairs = [tuple(map(int, pair.split(","))) for pair in found.split()]
        assert pairs == [(2 * i, 2 * i + 1) for i in range(len(pairs))], label
        assert len(pairs) >= 1, label
    edges = {label: found for label, found in lines.items() if label.startswith("weights")}
    for label, found in edges.items():
        a, b = map(int, re.findall(r"-?\d+", label))
        bounded = max(a, 0) + max(b, 0) <= 128 and min(a, 0) + min(b, 0) >= -128
        assert found == ("exact" if bounded else "saturate"), label
    assert len(edges) == 12


def test_what_cannot_be_tried_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(zoo_case("fire_module").qdq(), path)
    done = run_script("check_on_avx2.py", path, PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: valgrind: not found; install the package of that name")
    done = run_script("check_on_avx2.py", tmp_path / "nothing.onnx")
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def stand_in_valgrind(folder: Path, prelude: str) -> str:
    """A PATH on which `valgrind` runs the program as it is, after a line of shell."""
    script = folder / "valgrind"
    script.write_text(f'#!/bin/sh\nshift 2\n{prelude}\nexec "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.robustness(
    "Same bytes",
    "The script that tunes on an emulated CPU meets one that computes the same, and one that does not",
    "it says that all bytes are the same, or which constants and which fields of the report differ",
)
def test_comparing_with_an_emulated_cpu(tmp_path: Path) -> None:
    net = Net(13, seed=4)
    net.head(net.relu(net.conv("image", 3, 6)), 6, classes=CLASSES)
    onnx.save(net.model(shape=["n", 3, EXTENT, EXTENT], classes=CLASSES), tmp_path / "m.onnx")
    images = write_folders(tmp_path / "images", 36)
    data = {"dataloader": {"dataset": folders(images), "transform": TRANSFORM}}
    config = {
        "quantization": {"calibration": {"sampling_size": 12, **data}},
        "evaluation": {"accuracy": {**data}},
        "tuning": {"accuracy_criterion": {"absolute": 0.99}},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    flags = [f"--input_model={tmp_path / 'm.onnx'}", f"--config={tmp_path / 'c.yaml'}", "--refine=none"]
    done = run_script("same_bytes_on_avx2.py", *flags, PATH=stand_in_valgrind(tmp_path, ":"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^m-qdq\.onnx: the same \d+ bytes$", done.stdout, re.MULTILINE)
    # Another seed stands for a CPU that computes otherwise.
    other = stand_in_valgrind(tmp_path, 'set -- "$@" --seed=7')
    done = run_script("same_bytes_on_avx2.py", *flags, PATH=other)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^m-qdq\.onnx \S+ \(\w+\): \d+ of \d+ numbers differ", done.stdout, re.MULTILINE)
    assert "report.json run.seed: 9527 here, 7 there" in done.stdout
    done = run_script("same_bytes_on_avx2.py", *flags, PATH=str(tmp_path / "images"))
    assert (done.returncode, done.stderr) == (
        2,
        "error: valgrind: not found; install the package of that name\n",
    )
