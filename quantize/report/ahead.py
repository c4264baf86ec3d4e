"""Loads what pages are drawn and written with, while the program is still measuring.

Matplotlib takes a third of a second to import, and is needed at the very end of a run only. It is loaded by a
thread beside work that hardly needs the interpreter; never while speed is measured.
"""

from __future__ import annotations

import contextlib
import threading


def load_ahead() -> threading.Thread:
    """Begins to load, and returns at once; join the thread before anything is drawn."""
    thread = threading.Thread(target=_load, name="quantize-pages", daemon=True)
    thread.start()
    return thread


def _load() -> None:
    # Whatever is wrong will be so again when the pages are made, and is told then.
    with contextlib.suppress(Exception):
        from quantize.report.charts.canvas import load
        from quantize.report.pages import compile_templates

        load()
        compile_templates()
