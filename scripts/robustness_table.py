"""Makes docs/robustness.md of the tests that carry the marker `robustness`; nothing in it is written by hand.

Usage: PYTHON scripts/robustness_table.py [--check] [--tests FOLDER] [--page FILE]

Tests are collected, not run: whether they pass is for the test run to say, which covers every row. A row is
one `(area, done, does)`; `times` of the marker counts for each collected case, so a row says how often it is
tried.

Exit codes: 0 written, or up to date; 1 not up to date (`--check` only); 2 a marker is wrong, or the tests
cannot be collected.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "robustness.md"
MARKER = "robustness"
AREAS = ("Models", "Data", "Configuration", "Faults", "Numbers", "Same bytes", "Fuzzing", "Supply chain")

HEAD = """# What can go wrong, and what then happens

Made by `python scripts/robustness_table.py` of the tests that carry the marker `robustness`; a test holds it
to them. *Tried* counts how often one run of the tests does what the row says: cases, kills, examples, inputs.
"""

# What Markdown could take for markup inside of a cell of a table. Letters, digits and white space never are.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+|~!$-])")


class TableError(Exception):
    """The page cannot be made; the message says which test is why."""


@dataclass
class Row:
    """What the tests of one row add up to.

    Attributes:
        area: one of AREAS.
        done: what is done to the program.
        does: what it does then.
        times: how often one run of the tests tries it.
        files: the test files, relative to the project, in the order of collection.
    """

    area: str
    done: str
    does: str
    times: int = 0
    files: list[str] = field(default_factory=list)


def row_of(area: str, done: str, does: str, times: int = 1) -> Row:
    """Takes the marker's arguments, by position or name as Python does, and checks them.

    Raises:
        TypeError: an argument is missing or unknown.
        ValueError: one has a value that makes no row.
    """
    if area not in AREAS:
        raise ValueError(f"area {area!r} is none of {', '.join(AREAS)}")
    for name, text in (("done", done), ("does", does)):
        stopped = isinstance(text, str) and text.endswith(".") and not text.endswith("..")
        if not isinstance(text, str) or text != " ".join(text.split()) or not text or stopped:
            raise ValueError(f"{name} {text!r} is not one line of words without a full stop")
    if type(times) is not int or times < 1:
        raise ValueError(f"times {times!r} is not a positive number")
    return Row(area, done, does, times)


class Collector:
    """A pytest plugin that keeps what the markers of the collected tests say."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.problems: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Files that could not be collected would be missing from the page without a word."""
        if report.failed or report.skipped:
            reason = str(report.longrepr).strip().splitlines()
            self.problems.append(f"{report.nodeid} is not collected: {reason[-1] if reason else 'no reason'}")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Adds up the rows, in the order of the tests."""
        for item in items:
            for marker in item.iter_markers(MARKER):
                self._take(item, marker)

    def _take(self, item: pytest.Item, marker: pytest.Mark) -> None:
        try:
            found = row_of(*marker.args, **marker.kwargs)
        except (TypeError, ValueError) as error:
            self.problems.append(f"{item.nodeid}: {error}")
            return
        row = self.rows.setdefault(
            (found.area, found.done, found.does), Row(found.area, found.done, found.does)
        )
        row.times += found.times
        name = item.path.relative_to(self._root).as_posix()
        if name not in row.files:
            row.files.append(name)


def collect(tests: Path, root: Path) -> list[Row]:
    """Collects the tests below a folder, and returns their rows in the order of the areas and the tests.

    Raises:
        TableError: a marker is wrong, or something cannot be collected.
    """
    collector = Collector(root)
    # Other plugins must not change the order, and nothing is left behind in the checkout.
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--rootdir={root}"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main([*options, str(tests)], plugins=[collector])
    if collector.problems:
        raise TableError("; ".join(collector.problems))
    if code != pytest.ExitCode.OK:
        raise TableError(f"the tests cannot be collected: {said.getvalue().strip()[-2000:]}")
    return sorted(collector.rows.values(), key=lambda row: AREAS.index(row.area))


def cell(text: str) -> str:
    """`text` as it stands, whatever Markdown or HTML would make of it."""
    return _MARKUP.sub(r"\\\1", text.replace("&", "&amp;"))


def links(files: Iterable[str], page: Path, root: Path) -> str:
    """Markdown links from the page to the tests."""
    return ", ".join(
        f"[{cell(Path(name).stem)}]({Path(os.path.relpath(root / name, page.parent)).as_posix()})"
        for name in files
    )


def render(rows: Sequence[Row], page: Path, root: Path) -> str:
    """The whole page: a table for each area that has rows."""
    parts = [HEAD]
    for area in AREAS:
        of_area = [row for row in rows if row.area == area]
        if not of_area:
            continue
        parts.append(f"## {area}\n")
        lines = ["| What is done | What the program does | Tried | Proved by |", "|---|---|--:|---|"]
        lines += [
            f"| {cell(row.done)} | {cell(row.does)} | {row.times} | {links(row.files, page, root)} |"
            for row in of_area
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def write(page: Path, text: str) -> None:
    """Writes the page, all of it or none of it."""
    from quantize.files import atomic_write_text

    atomic_write_text(page, text)


def main(arguments: Sequence[str]) -> int:
    """Carries out the command line that the module describes; returns the exit code."""
    parser = argparse.ArgumentParser(description="Makes docs/robustness.md of the tests.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is out of date"
    )
    parser.add_argument("--tests", type=Path, default=PROJECT / "tests", help="the folder of the tests")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page")
    options: Any = parser.parse_args(arguments)
    tests, page = options.tests.resolve(), options.page.resolve()
    sys.path.insert(0, str(PROJECT))
    root = PROJECT if tests.is_relative_to(PROJECT) else tests
    try:
        text = render(collect(tests, root), page, root)
    except TableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not options.check:
        write(page, text)
        print(f"wrote {options.page}")
    elif not page.is_file() or page.read_text(encoding="utf-8") != text:
        print(f"{options.page} is out of date: run python scripts/robustness_table.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
