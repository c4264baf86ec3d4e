"""Domain errors of the quantization side; one tree with `calibration.errors`."""

from __future__ import annotations

from calibration.errors import InputError, PipelineError, quoted

__all__ = ["EngineError", "InputError", "PipelineError", "quoted"]


class EngineError(PipelineError):
    """The tuning engine, or the runtime below it, failed on input that had been accepted."""

    exit_code = 3
