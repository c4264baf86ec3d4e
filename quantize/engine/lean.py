"""Imports the engine without what makes that slow and is never used: 0.2 instead of 2.5 s.

Three things take nearly all of the time. At its import the engine assembles and runs machine code in child
processes to ask the processor for its features (1.1 s), on which it would base decisions that are all made
elsewhere here; it imports scikit-learn, pandas and half of SciPy (1 s), which only its Bayesian strategy uses
and one that does not run; and it classifies every character of Unicode for a translation metric (0.4 s).
Stand-ins take their places while the engine is imported; what may be needed of them later is imported at its
first call.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Module -> what the engine imports from it by name; all of these are only ever called.
_LATE: Mapping[str, tuple[str, ...]] = {
    "pandas": (),
    "scipy": (),
    "scipy.optimize": ("minimize",),
    "sklearn": (),
    "sklearn.metrics": ("accuracy_score",),
    "sklearn.gaussian_process": ("GaussianProcessRegressor",),
    "sklearn.gaussian_process.kernels": ("Matern",),
}
_PROCESSOR = "cpuinfo"
_TRANSLATION_METRIC = "neural_compressor.metric.bleu"
_ENGINE = "neural_compressor"


@contextlib.contextmanager
def lean_import() -> Iterator[None]:
    """Puts the stand-ins in place for the time of the block, unless the engine is there already."""
    if _ENGINE in sys.modules:
        yield
        return
    stand_ins = {_PROCESSOR: _processor(), _TRANSLATION_METRIC: types.ModuleType(_TRANSLATION_METRIC)}
    there = {name.partition(".")[0] for name in sys.modules}
    stand_ins |= {
        name: _late(name, names) for name, names in _LATE.items() if name.partition(".")[0] not in there
    }
    placed = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _processor() -> types.ModuleType:
    """Tells of no processor at all; the engine then takes it for one without any special instructions."""
    module: Any = types.ModuleType(_PROCESSOR)
    module.get_cpu_info = dict
    found: types.ModuleType = module
    return found


def _late(name: str, names: tuple[str, ...]) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__path__ = []  # makes it a package, whose submodules can be imported
    for wanted in names:
        setattr(module, wanted, _at_first_call(name, wanted))
    return module


def _at_first_call(module: str, name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return call
