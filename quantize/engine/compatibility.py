"""Keeps Intel Neural Compressor 3.7.1 in its place: what it needs is given, what it touches is put back.

It uses `onnx.mapping`, which onnx dropped in 1.19; importing it takes over loggers and edits the environment;
using it seeds the global random generators and writes into global options.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantize.engine.lean import lean_import
from quantize.errors import InputError
from quantize.scratch import temporary_folder

_MAPPING = "onnx.mapping"
_ENGINE_LOGGER = "neural_compressor"

# They make the engine leave out the part of itself that we need.
_ENGINE_VARIABLES = ("INC_PT_ONLY", "INC_TF_ONLY")

# With it the engine would spread trials over MPI ranks by a way of its own, past every record we keep.
_DISTRIBUTOR = "mpi4py"

# Seen log levels of Python; nothing is as severe as this, so nothing passes.
_SILENT = logging.CRITICAL + 1


@contextlib.contextmanager
def contained(*, workspace: Path | None, seed: int, verbose: bool, lean: bool = True) -> Iterator[Path]:
    """Gives the engine what it needs for the time of the block, and restores the process afterwards.

    Args:
        workspace: where the engine writes; None is a temporary folder that is removed at the end.
        seed: of the engine's random choices; at most 32 bits are used.
        verbose: let the engine's log reach stderr.
        lean: import it without what is slow to import and not used here.

    Yields:
        The folder that the engine writes to.

    Raises:
        InputError: the workspace cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_restored_environment())
        stack.enter_context(_restored_logging())
        stack.enter_context(_restored_random_state())
        stack.enter_context(_onnx_mapping())
        stack.enter_context(_hidden(_DISTRIBUTOR))
        stack.enter_context(warnings.catch_warnings())
        # The engine's dependencies announce deprecations that a user can do nothing about.
        warnings.simplefilter("ignore")
        if workspace is None:
            workspace = stack.enter_context(temporary_folder("engine"))
        else:
            _check_writable(workspace)
        for name in _ENGINE_VARIABLES:
            os.environ.pop(name, None)
        # Read while it is imported; a value that `logging` does not know would make it fail.
        os.environ["LOGLEVEL"] = "CRITICAL"
        with lean_import() if lean else contextlib.nullcontext():
            import neural_compressor.strategy  # noqa: F401  # with all strategies and adaptors
        stack.enter_context(_restored_globals())
        stack.enter_context(_steady_clock())
        from neural_compressor.config import options

        _log_to_stderr(verbose)
        options.workspace, options.random_seed, options.resume_from = str(workspace), seed % 2**32, None
        options.tensorboard = False
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield workspace


@contextlib.contextmanager
def _restored_environment() -> Iterator[None]:
    """Importing the engine deletes CUDA_VISIBLE_DEVICES; its adaptor sets ORT_TENSORRT_UNAVAILABLE.

    It also imports `pkg_resources`, which may add setuptools' own folder of packages to the import path.
    """
    environment, folder, import_path = dict(os.environ), Path.cwd(), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = import_path
        for name in set(os.environ) - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        os.chdir(folder)


def _check_writable(workspace: Path) -> None:
    """The engine makes the folder late and inside its own error handling, so it is tried before."""
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workspace) as probe:
            probe.write(b"\0")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"--workspace {workspace}: cannot write there ({reason}); give another folder"
        ) from error


@contextlib.contextmanager
def _restored_logging() -> Iterator[None]:
    """Importing the engine clears its logger's handlers, adds its own, and stops propagation."""
    loggers = [logging.getLogger(), logging.getLogger(_ENGINE_LOGGER)]
    states = [(one.level, list(one.handlers), one.propagate, one.disabled) for one in loggers]
    disabled = logging.root.manager.disable
    try:
        yield
    finally:
        for one, (level, handlers, propagate, off) in zip(loggers, states, strict=True):
            one.setLevel(level)
            one.handlers[:] = handlers
            one.propagate, one.disabled = propagate, off
        logging.disable(disabled)


def _log_to_stderr(verbose: bool) -> None:
    """One handler for the engine's log; its own is made once per process, for the stderr of that moment."""
    logger = logging.getLogger(_ENGINE_LOGGER)
    logger.setLevel(logging.INFO if verbose else _SILENT)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.propagate = False


@contextlib.contextmanager
def _restored_random_state() -> Iterator[None]:
    python, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)


@contextlib.contextmanager
def _onnx_mapping() -> Iterator[None]:
    """Puts the two tables of `onnx.mapping` that the engine reads in place, unless onnx has them."""
    if hasattr(onnx, "mapping"):
        yield
        return
    module: Any = types.ModuleType(_MAPPING)
    kinds = [kind for kind in TensorProto.DataType.values() if kind != TensorProto.UNDEFINED]
    module.TENSOR_TYPE_TO_NP_TYPE = {kind: helper.tensor_dtype_to_np_dtype(kind) for kind in kinds}
    module.NP_TYPE_TO_TENSOR_TYPE = {
        np.dtype(dtype): kind for kind, dtype in module.TENSOR_TYPE_TO_NP_TYPE.items()
    }
    package: Any = onnx
    previous = sys.modules.get(_MAPPING)
    sys.modules[_MAPPING] = module
    package.mapping = module
    try:
        yield
    finally:
        del package.mapping
        if previous is None:
            del sys.modules[_MAPPING]
        else:
            sys.modules[_MAPPING] = previous


@contextlib.contextmanager
def _steady_clock() -> Iterator[None]:
    """The engine times a model's evaluation by the wall clock, and fails if that is set back meanwhile."""
    from neural_compressor import objective

    real = objective.time
    objective.time = types.SimpleNamespace(time=time.monotonic)
    try:
        yield
    finally:
        objective.time = real


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Makes importing a module fail within the block."""
    loaded = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] == module}
    for name in (module, *loaded):
        sys.modules[name] = None  # type: ignore[assignment]  # how Python marks a module that cannot be imported
    try:
        yield
    finally:
        sys.modules.pop(module, None)
        sys.modules.update(loaded)


@contextlib.contextmanager
def _restored_globals() -> Iterator[None]:
    """The engine's options, adaptors, recipes and mode are one object each for the whole process."""
    from neural_compressor.adaptor import FRAMEWORKS
    from neural_compressor.config import options
    from neural_compressor.strategy.strategy import STRATEGIES
    from neural_compressor.utils.constant import RECIPES
    from neural_compressor.utils.utility import GLOBAL_STATE

    tables: list[dict[Any, Any]] = [vars(options), FRAMEWORKS, STRATEGIES, *RECIPES.values()]
    saved, mode = [dict(table) for table in tables], GLOBAL_STATE.STATE
    try:
        yield
    finally:
        GLOBAL_STATE.STATE = mode
        for table, content in zip(tables, saved, strict=True):
            table.clear()
            table.update(content)
