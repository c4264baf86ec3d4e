"""Files that are read back: once each, and told by their names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantize import written as module
from quantize.errors import EngineError, InputError
from quantize.kernels import declared_coverage, integer_coverage
from quantize.loading import read_model
from quantize.saturation import pair_bound
from quantize.session import outputs
from quantize.written import read_back


@pytest.fixture
def paths(model_files: Any) -> dict[str, Path]:
    return {"fp32": model_files.fp32, "QOperator": model_files.qoperator, "QDQ": model_files.qdq}


@pytest.mark.parametrize("workers", [1, 3])
def test_each_file_is_read_once_and_says_what_it_says_alone(
    paths: dict[str, Path], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[Path] = Counter()

    def counted(path: Path) -> onnx.ModelProto:
        read[path] += 1
        return read_model(path)

    monkeypatch.setattr(module, "read_model", counted)
    found = read_back(paths, integer={"QOperator", "QDQ"}, declared=True, workers=workers)
    assert list(found) == list(paths)
    assert read == dict.fromkeys(paths.values(), 1)
    for name, path in paths.items():
        assert found[name].path == path
        assert found[name].coverage == integer_coverage(path)
    assert found["fp32"].exact is None and found["fp32"].declared is None
    for name in ("QOperator", "QDQ"):
        assert found[name].bound == pair_bound(paths[name])
        assert found[name].declared == declared_coverage(read_model(paths[name]).graph)


def test_both_sessions_of_a_file_run_it(paths: dict[str, Path], model_files: Any) -> None:
    found = read_back(paths, integer={"QOperator", "QDQ"}, declared=False, workers=1)["QDQ"]
    assert found.declared is None and found.exact is not None
    images, _ = next(iter(model_files.batches()))
    # Weights of 7 bits, whose products saturate on no CPU.
    np.testing.assert_array_equal(outputs(found.session, images), outputs(found.exact, images))


def test_what_cannot_be_read_or_run_is_called_by_its_path(paths: dict[str, Path], tmp_path: Path) -> None:
    absent = tmp_path / "absent.onnx"
    with pytest.raises(InputError, match=r"absent\.onnx: does not exist"):
        read_back({"fp32": absent}, integer=(), declared=False, workers=2)
    broken = read_model(paths["fp32"])
    broken.graph.node[0].op_type = "NoSuchOperator"
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(EngineError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
        read_back({"fp32": path}, integer=(), declared=False, workers=2)
