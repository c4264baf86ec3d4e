"""Post-training quantization of ONNX image classifiers to int8, with proof that accuracy held.

`import quantize` is cheap; the engine, ONNX and ONNX Runtime are imported by what needs them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime's Linux and macOS builds send usage events and write an identifier to the home folder, from
# the moment they are imported (1.29 and newer). A user's models are nobody else's business; "0" allows it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from quantize.conclusion import TuningResult
    from quantize.diagnose.options import ReportOptions
    from quantize.pipeline import tune

__all__ = ["ReportOptions", "TuningResult", "tune"]


def __getattr__(name: str) -> Any:
    """Imports the pipeline when one of its public names is first used (PEP 562)."""
    if name in __all__:
        from quantize import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
