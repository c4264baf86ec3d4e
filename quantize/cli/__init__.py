"""The command line: `python -m quantize tune|evaluate|benchmark`."""

from __future__ import annotations

from quantize.cli.main import main, program

__all__ = ["main", "program"]
