"""What a user may say about the report; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportOptions:
    """How the report is made.

    Attributes:
        pages: write `report.html` and `report.md` too, and measure what only they and the diagnosis in
            `report.json` show.
        labels: names of the classes, one line each.
        sensitivity: a file of the command `sensitivity`; the fallback order comes from it.
        measure_sensitivity: measure what every operator costs, however long it takes.
    """

    pages: bool = True
    labels: Path | None = None
    sensitivity: Path | None = None
    measure_sensitivity: bool = False
