"""Loading ahead: everything is there when the thread has ended, and its failures are not told twice."""

from __future__ import annotations

import subprocess
import sys

import pytest

from quantize.report.ahead import load_ahead
from quantize.report.charts import canvas

PROGRAM = """
import sys
from quantize.report.ahead import load_ahead

assert "matplotlib" not in sys.modules and "jinja2" not in sys.modules
load_ahead().join()
assert {"matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2"} <= sys.modules.keys()
"""


def test_what_pages_need_is_loaded_when_the_thread_has_ended() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_cannot_be_loaded_is_told_by_whoever_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ImportError("no such library")

    monkeypatch.setattr(canvas, "load", absent)
    load_ahead().join()
    with pytest.raises(ImportError, match="no such library"), canvas.canvas(10, 10):
        pass
