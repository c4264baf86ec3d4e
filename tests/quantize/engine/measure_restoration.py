"""Run by test_traps.py in a fresh interpreter: what does the process look like before and after tuning?

Argument: "succeeds", "fails" (the judge raises) or "alone" (the engine without our containment). Prints the
differences and the engine's own tables as JSON.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import locale
import logging
import os
import random
import signal
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil


def load_kit() -> Any:
    spec = importlib.util.spec_from_file_location("kit", Path(__file__).parent / "conftest.py")
    assert spec is not None and spec.loader is not None
    kit = sys.modules["kit"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kit)
    return kit


def process_state() -> dict[str, Any]:
    loggers = [logging.getLogger(name) for name in (None, "neural_compressor")]
    named = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    return {
        "logging": [(o.level, list(map(id, o.handlers)), o.propagate, o.disabled) for o in loggers],
        "disabled": logging.root.manager.disable,
        "other loggers": sorted(
            o.name for o in named if o.handlers or o.level or not o.propagate or o.disabled
        ),
        "environment": dict(os.environ),
        "random": str(random.getstate()),
        "numpy random": str(np.random.get_state()),
        "folder": os.getcwd(),
        "files": sorted(map(str, Path().rglob("*"))),
        "temporary files": sorted(map(str, Path(os.environ["TMPDIR"]).iterdir())),
        "mapping": [hasattr(onnx, "mapping"), "onnx.mapping" in sys.modules],
        "mpi4py": "mpi4py" in sys.modules,
        "warnings": list(map(str, warnings.filters)),
        "signals": {int(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "threads": [thread.name for thread in threading.enumerate()],
        "children": sorted(child.pid for child in psutil.Process().children(recursive=True)),
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.unraisablehook)],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), gc.get_threshold()],
        "numpy settings": str(np.geterr()) + str(np.get_printoptions()),
        "locale": locale.setlocale(locale.LC_ALL),
        "path": list(sys.path),
    }


def engine_state() -> str:
    from neural_compressor.adaptor import FRAMEWORKS
    from neural_compressor.config import options
    from neural_compressor.strategy.strategy import STRATEGIES
    from neural_compressor.utils.constant import RECIPES
    from neural_compressor.utils.utility import GLOBAL_STATE

    return str([FRAMEWORKS, vars(options), STRATEGIES, RECIPES, GLOBAL_STATE.STATE])


def measure(outcome: str) -> tuple[list[str], str]:
    """Three runs, so that what only the first import does and what only a later run does both show."""
    from quantize import engine
    from quantize.errors import EngineError

    kit = load_kit()
    assert "neural_compressor" not in sys.modules

    def broken(model: onnx.ModelProto) -> float:
        raise RuntimeError("on purpose")

    task = kit.build_task(**({"judge": broken} if outcome == "fails" else {}))
    differences: list[str] = []
    tables: set[str] = set()
    for run in range(3):
        random.seed(5)
        np.random.seed(5)
        options = kit.build_options(strategy="bayesian", max_trials=2, timeout_s=60.0, verbose=run == 1)
        before = process_state()
        try:
            engine.tune(task, options)
            assert outcome == "succeeds"
        except EngineError:
            assert outcome == "fails"
        after = process_state()
        differences += [f"run {run}, {k}: {before[k]} -> {after[k]}" for k in before if before[k] != after[k]]
        tables.add(engine_state())
    (table,) = tables
    return differences, table


def show_what_the_engine_does_alone() -> None:
    mapping: Any = types.ModuleType("onnx.mapping")
    mapping.TENSOR_TYPE_TO_NP_TYPE = {1: np.dtype("float32")}
    mapping.NP_TYPE_TO_TENSOR_TYPE = {np.dtype("float32"): 1}
    package: Any = onnx
    sys.modules["onnx.mapping"] = package.mapping = mapping
    handler = logging.NullHandler()
    logger = logging.getLogger("neural_compressor")
    logger.addHandler(handler)
    from neural_compressor.model import Model

    Model(load_kit().build_network())
    assert handler not in logger.handlers
    assert not logger.propagate
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


if __name__ == "__main__":
    if sys.argv[1] == "alone":
        show_what_the_engine_does_alone()
    else:
        print(json.dumps(measure(sys.argv[1])))
