"""The charts: what is drawn, in whose colours, and that odd figures do not stop them."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest

from quantize.diagnose.ablation import Effect, OperatorEffect
from quantize.diagnose.record import Record
from quantize.report.charts.canvas import INT8, canvas, short
from quantize.report.charts.causes import sensitivity, signal_to_noise, value_range
from quantize.report.charts.outcome import Bar, IntervalRow, bars, declines
from quantize.report.charts.sensitivity import sensitivity_chart
from quantize.report.charts.style import standalone

PROJECT = Path(__file__).resolve().parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        assert "style" not in element.attrib
        assert element.tag != f"{SVG}style"
    return root


def words(root: ElementTree.Element) -> str:
    return " ".join("".join(root.itertext()).split())


def lengths(root: ElementTree.Element, role: str) -> list[float]:
    """How wide the filled shapes of one colour are."""
    found = []
    for path in root.iter(f"{SVG}path"):
        if path.get("class") == f"fill-{role}":
            numbers = [float(word) for word in path.attrib["d"].split() if word[-1].isdigit()]
            found.append(max(numbers[::2]) - min(numbers[::2]))
    return found


def test_bars_are_as_long_as_their_numbers() -> None:
    rows = [Bar("fp32", 14.0, "14 MB"), Bar("QOperator", 3.5, "3.5 MB"), Bar("QDQ", 7.0, "7 MB")]
    root = parsed(bars(rows, "size", "sizes"))
    ((fp32,), (int8,), (second,)) = (lengths(root, role) for role in ("fp32", "int8", "second"))
    assert (int8 / fp32, second / fp32) == pytest.approx((0.25, 0.5), rel=1e-3)
    assert "3.5 MB" in words(root)
    assert root.attrib["aria-label"] == "sizes"


def test_colours_belong_to_the_formats_and_not_to_their_order() -> None:
    root = parsed(bars([Bar("QDQ", 1.0, ""), Bar("QOperator", 2.0, "")], "x", "x"))
    assert len(lengths(root, "second")) == len(lengths(root, "int8")) == 1
    assert lengths(root, "second") < lengths(root, "int8")


def test_pointing_at_a_part_tells_its_figure() -> None:
    rows = [IntervalRow("top-1", 0.01, -0.005, 0.02, judged=True)]
    root = parsed(declines(rows, 0.015, "%"))
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert "top-1: 1.00 %, 95 % interval -0.50 to 2.00" in titles


def test_names_are_drawn_as_they_are() -> None:
    root = parsed(sensitivity([("$x^2$", 0.2), ("<b>&\x1b", 0.1), ("a" * 100, -0.1), ("", 0.0)]))
    assert "$x^2$" in words(root)
    assert "<b>&\\x1b" in words(root)
    assert "…" + "a" * 19 in words(root)
    assert len(lengths(root, "int8")) == 2


def test_the_users_own_settings_neither_show_nor_change() -> None:
    rows = [Bar("fp32", 1.0, "one")]
    plain = bars(rows, "a", "b")
    level = logging.getLogger("matplotlib").level
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path"}):
        assert bars(rows, "a", "b") == plain
        assert matplotlib.rcParams["font.size"] == 30
    assert logging.getLogger("matplotlib").level == level


@pytest.mark.parametrize("backend", ["nonsense", "module://no_such_notebook", "svg"])
def test_a_backend_that_is_not_there_is_not_needed(backend: str) -> None:
    drawn = (
        "import os; from quantize.report.charts.outcome import bars, Bar\n"
        "assert bars([Bar('fp32', 1.0, 'one')], 'a', 'b')\n"
        f"import matplotlib; assert os.environ['MPLBACKEND'] == {backend!r}\n"
        "print(matplotlib.rcParams['backend'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "MPLBACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", drawn], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Whoever draws in a notebook afterwards gets what they asked for, where matplotlib knows it.
    assert done.stdout.strip() == backend or backend == "nonsense"


def tensor(**changes: Any) -> dict[str, Any]:
    made = {"tensor": "t", "operator": "o", "op_type": "Conv", "sqnr_db": 20.0, "own_sqnr_db": 30.0}
    return {**made, "range_low": -1.0, "range_high": 2.0, "saturated_fraction": 0.01, **changes}


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.filterwarnings("error")
def test_signal_to_noise_leaves_out_what_is_undefined(wide: bool) -> None:
    tensors = [tensor(), tensor(sqnr_db=None, operator=""), tensor(own_sqnr_db=None), tensor(sqnr_db=-3.0)]
    root = parsed(signal_to_noise(tensors, wide=wide))
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert len([title for title in titles if "all errors up to here" in title]) == 3
    assert len([title for title in titles if "its own rounding alone" in title]) == 3
    assert "input t: 30.0 dB, its own rounding alone" in titles
    # Each text is at its own marker: higher is better, and SVG counts downwards.
    heights = {
        title.text or "": float(marker.attrib["y"])
        for marker in root.iter(f"{SVG}use")
        for title in marker.iter(f"{SVG}title")
    }
    assert len(heights) == 4  # two texts are there twice
    assert heights["o: 30.0 dB, its own rounding alone"] < heights["o: 20.0 dB, all errors up to here"]
    assert heights["o: 20.0 dB, all errors up to here"] < heights["o: -3.0 dB, all errors up to here"]
    assert parsed(signal_to_noise([tensor(sqnr_db=None, own_sqnr_db=None)], wide=wide)) is not None


@pytest.mark.filterwarnings("error")
def test_distributions_of_every_kind() -> None:
    histograms = [
        {"tensor": "t", "low": -1.0, "high": 3.0, "counts": list(range(64))},
        {"tensor": "t", "low": 0.0, "high": 0.0, "counts": [9] + [0] * 63},  # a tensor that is constant
        {"tensor": "t", "low": -1e30, "high": 1e30, "counts": [1] * 64},
    ]
    for one in histograms:
        root = parsed(value_range(one, tensor(), "range0"))
        assert "1.00 % outside" in words(root)
        assert any("integers cover -1 to 2" in (t.text or "") for t in root.iter(f"{SVG}title"))


def test_a_chart_on_its_own_brings_its_colours() -> None:
    effect = Effect(0.1, 0.9, 0.8)
    operators = tuple(OperatorEffect(f"<op {k}>", "Conv", effect, Effect(0.1 * k, 1, 1)) for k in range(70))
    record = Record({}, "minmax", 0.8, Effect(1.0, 0.9, 0.8)).with_operators(operators, complete=True)
    root = ElementTree.fromstring(standalone(sensitivity_chart(record)))
    (sheet,) = root.iter(f"{SVG}style")
    assert "prefers-color-scheme:dark" in (sheet.text or "")
    assert "<op 0>" in words(root)
    assert "<op 69>" not in words(root)  # the picture ends somewhere; the record does not


def test_short_keeps_the_end() -> None:
    assert short("abcdef", 6) == "abcdef"
    assert short("abcdefg", 6) == "…cdefg"
    assert len(short("\x00" * 50, 10)) == 10


def test_names_get_the_prefix_of_their_chart() -> None:
    with canvas(100, 100) as drawn:
        axes = drawn.figure.add_subplot()
        axes.plot([0, 1], [0, math.pi], "o-", color=INT8)
        root = parsed(drawn.svg("mine", "x"))
    names = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert names
    assert all(name.startswith("mine-") for name in names)
