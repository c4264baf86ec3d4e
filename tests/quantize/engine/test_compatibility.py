"""Containment in a process where others use the engine, its log and its neighbours too."""

from __future__ import annotations

import logging
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quantize.engine.compatibility import contained


def test_mapping_has_both_tables_and_leaves(tmp_path: Path) -> None:
    package: Any = onnx
    with contained(workspace=tmp_path, seed=1, verbose=False):
        assert sys.modules["onnx.mapping"] is package.mapping
        there, back = package.mapping.TENSOR_TYPE_TO_NP_TYPE, package.mapping.NP_TYPE_TO_TENSOR_TYPE
        for kind, dtype in (("FLOAT", "float32"), ("UINT8", "uint8"), ("INT8", "int8"), ("INT32", "int32")):
            number = TensorProto.DataType.Value(kind)
            assert there[number] == np.dtype(dtype)
            assert back[np.dtype(dtype)] == number
    assert not hasattr(onnx, "mapping")
    assert "onnx.mapping" not in sys.modules


def test_mapping_of_somebody_else_is_used_and_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package: Any = onnx
    theirs = types.ModuleType("onnx.mapping")
    monkeypatch.setattr(package, "mapping", theirs, raising=False)
    with contained(workspace=tmp_path, seed=1, verbose=False):
        assert package.mapping is theirs
    assert package.mapping is theirs


def test_stale_module_is_put_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stale = types.ModuleType("onnx.mapping")
    monkeypatch.setitem(sys.modules, "onnx.mapping", stale)
    with contained(workspace=tmp_path, seed=1, verbose=False):
        assert sys.modules["onnx.mapping"] is not stale
    assert sys.modules["onnx.mapping"] is stale


def test_mpi_is_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under mpirun the engine would spread its trials over the ranks, past our records."""
    ours = types.ModuleType("mpi4py")
    monkeypatch.setitem(sys.modules, "mpi4py", ours)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", types.ModuleType("mpi4py.MPI"))
    with contained(workspace=tmp_path, seed=1, verbose=False), pytest.raises(ImportError):
        import mpi4py  # noqa: F401
    assert sys.modules["mpi4py"] is ours


@pytest.mark.parametrize("verbose", [False, True])
def test_log_reaches_stderr_only_when_asked(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, verbose: bool
) -> None:
    for _ in range(2):
        with contained(workspace=tmp_path, seed=1, verbose=verbose):
            from neural_compressor.utils import logger

            logger.info("something")
            logger.error("something")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("neural_compressor: something") == (4 if verbose else 0)


def test_users_log_of_the_engine_stays(tmp_path: Path) -> None:
    logger, handler = logging.getLogger("neural_compressor"), logging.NullHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    try:
        with contained(workspace=tmp_path, seed=1, verbose=True):
            assert handler not in logger.handlers
        assert (logger.handlers[-1], logger.level) == (handler, logging.ERROR)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def test_environment_and_folder_come_back_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INC_TF_ONLY", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before, folder = dict(os.environ), Path.cwd()
    with pytest.raises(RuntimeError), contained(workspace=tmp_path, seed=1, verbose=False):
        assert "INC_TF_ONLY" not in os.environ
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ["NEW"] = "1"
        os.chdir(tmp_path)
        raise RuntimeError
    assert (dict(os.environ), Path.cwd()) == (before, folder)


@pytest.mark.parametrize("seed", [0, 9527, 2**32 - 1, 2**40])
def test_any_seed_is_taken(tmp_path: Path, seed: int) -> None:
    with contained(workspace=tmp_path, seed=seed, verbose=False):
        first = np.random.random()
    with contained(workspace=tmp_path, seed=seed, verbose=False):
        assert np.random.random() == first
