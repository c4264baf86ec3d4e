"""The table and the verdict line as a person sees them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from quantize.criterion import Criterion
from quantize.metrics import Equality
from quantize.portability import PairBound, Portability
from quantize.report.terminal import render, show
from quantize.report.verdict import Verdict, judge
from quantize.target import TENSORRT, VNNI


def rendered(verification: Any, criterion: Criterion | None = None, width_columns: int = 80) -> str:
    chosen = criterion or Criterion()
    return render(verification, chosen, judge(verification, chosen), width_columns=width_columns)


def row(text: str, label: str) -> list[str]:
    return next(line for line in text.splitlines() if line.strip().startswith(label)).split(label)[1].split()


def test_every_figure_is_in_the_table(make_verification: Any) -> None:
    text = rendered(make_verification())
    assert row(text, "top-1") == ["84.00%", "83.50%", "83.50%"]
    assert row(text, "relative decline of top-1") == ["-", "0.60", "%", "0.60", "%"]
    assert row(text, "images lost / won") == ["-", "3", "/", "1", "3", "/", "1"]
    assert row(text, "agreement with fp32") == ["-", "97.50%", "97.50%"]
    assert row(text, "KL(fp32, int8), nats") == ["-", "0.0080", "0.0080"]
    assert row(text, "integer operators") == ["0/53", "53/53", "53/53"]
    assert row(text, "exact on every CPU") == ["-", "yes", "yes"]
    assert row(text, "size, MB") == ["13.97", "3.67", "3.67"]
    assert row(text, "speed-up") == ["1.00x", "1.47x", "1.47x"]
    assert row(text, "images/s (batch 32, 1 thread)") == ["120", "250", "380"]
    assert "400 images, 1000 classes" in text


def test_the_table_fits_80_columns_and_the_verdict_is_one_line(make_verification: Any) -> None:
    lines = rendered(
        make_verification(lost=30, warnings=("w" * 100,)), Criterion(kind="absolute")
    ).splitlines()
    assert [line for line in lines if line.startswith(("PASS", "FAIL"))] == [lines[-1]]
    assert lines[-2] == "warning: " + "w" * 100
    assert all(len(line) <= 80 for line in lines[:-2])
    assert not any("…" in line for line in lines)


def test_one_format_has_one_column(make_verification: Any) -> None:
    text = rendered(make_verification(formats=("QDQ",)))
    assert "QOperator" not in text
    assert row(text, "integer operators") == ["0/53", "53/53"]


@pytest.mark.parametrize(("passed", "code"), [(True, "\x1b[1;32m"), (False, "\x1b[1;31m")])
def test_colour_only_on_a_terminal(
    make_verification: Any, monkeypatch: pytest.MonkeyPatch, passed: bool, code: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    verdict = Verdict(passed, "a sentence")

    def shown(stream: io.StringIO) -> str:
        show(make_verification(), Criterion(), verdict, stream=stream)
        return stream.getvalue()

    assert code in shown(Terminal())
    assert "\x1b" not in shown(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;3" not in shown(Terminal())  # bold may stay, colour may not


def test_exactness_is_told_whatever_the_target_but_not_of_other_devices(make_verification: Any) -> None:
    bad = Portability(Equality(400, 399, 0.1), PairBound(36, 17))
    text = rendered(make_verification(portability=bad, target=VNNI))
    assert row(text, "exact on every CPU") == ["-", "no", "no"]
    text = rendered(make_verification(portability=bad, target=TENSORRT))
    assert row(text, "exact on every CPU") == ["-", "-", "-"]
    text = rendered(make_verification(portability=Portability()))  # nothing was compared
    assert row(text, "exact on every CPU") == ["-", "-", "-"]


def test_kernels_are_counted_on_request(make_verification: Any) -> None:
    verification = make_verification(stray=("conv_1",))
    text = render(verification, Criterion(), Verdict(True, "PASS: x"), kernels=True)
    assert row(text, "QLinearConv") == ["-", "51", "51"]
    assert row(text, "Conv") == ["52", "1", "1"]
    assert row(text, "QuantizeLinear") == ["-", "1", "1"]
    assert row(text, "all") == ["53", "55", "55"]
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "QLinearConv" not in render(verification, Criterion(), Verdict(True, "PASS: x"))


def test_times_are_shown_where_they_were_taken(make_verification: Any) -> None:
    text = rendered(make_verification(profile_ms={"Conv": 4.25, "Add": 0.5}))
    assert row(text, "Conv") == ["4.250", "-", "-"]
    assert row(text, "all") == ["4.750", "0.000", "0.000"]
    assert text.index("Conv ") < text.index("Add ")  # the most expensive first
