"""Post-training quantization of ONNX image classifiers to int8, with proof that accuracy held.

`import quantize` is cheap; the engine, ONNX and ONNX Runtime are imported by what needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantize.pipeline import TuningResult, tune

__all__ = ["TuningResult", "tune"]


def __getattr__(name: str) -> Any:
    """Imports the pipeline when one of its two public names is first used (PEP 562)."""
    if name in __all__:
        from quantize import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
