"""The scripts that emulate a CPU without VNNI: what they find is what the portability check rests on."""

from __future__ import annotations

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
from tests.quantize.models import zoo_case

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
    assert "no such model file" in done.stderr
