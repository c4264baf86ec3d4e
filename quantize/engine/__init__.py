"""The tuning engine: the only package that knows Intel Neural Compressor, which it imports late."""

from quantize.engine.run import SUPPORTED_STRATEGIES, tune
from quantize.engine.types import EngineOptions, EngineResult, Task, Trial

__all__ = ["SUPPORTED_STRATEGIES", "EngineOptions", "EngineResult", "Task", "Trial", "tune"]
