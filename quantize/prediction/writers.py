"""Predictions as a table for people, or as JSON lines, CSV or one JSON document for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from quantize.prediction.scores import Guess
from quantize.printable import json_ready, printable, shortened

Print = Callable[[str], None]

_PATH_COLUMNS = 40
_NAME_COLUMNS = 30


@dataclass(frozen=True)
class Prediction:
    """What one or two models say about an image.

    Attributes:
        path: the file.
        guesses: of each model, the most probable class first; empty if the image could not be read.
        problem: why it could not; empty otherwise.
        kl_nats: KL divergence of the second model from the first; None without a second.
    """

    path: Path
    guesses: tuple[Sequence[Guess], ...]
    problem: str = ""
    kl_nats: float | None = None

    @property
    def agree(self) -> bool:
        """Whether all models have the same best class."""
        return len({row[0].index for row in self.guesses}) <= 1

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        if self.problem:
            return {"image": str(self.path), "error": self.problem}
        first, *others = ([guess.to_json() for guess in row] for row in self.guesses)
        other = {"other": others[0], "agree": self.agree, "kl_nats": self.kl_nats} if others else {}
        return {"image": str(self.path), "predictions": first, **other}


@dataclass
class Summary:
    """Totals of a run.

    Attributes:
        images: that were read.
        failed: that could not be.
        disagreements: images whose best class differs between the models.
        kl_sum_nats: sum of the divergences.
    """

    images: int = 0
    failed: int = 0
    disagreements: int = 0
    kl_sum_nats: float = 0.0

    def add(self, prediction: Prediction) -> None:
        """Counts one image."""
        if prediction.problem:
            self.failed += 1
            return
        self.images += 1
        self.disagreements += not prediction.agree
        self.kl_sum_nats += prediction.kl_nats or 0.0

    def to_json(self, *, compared: bool) -> dict[str, Any]:
        """As plain values."""
        counts: dict[str, Any] = {"images": self.images, "failed": self.failed}
        if compared:
            mean = self.kl_sum_nats / self.images if self.images else None
            counts |= {"disagreements": self.disagreements, "mean_kl_nats": mean}
        return counts


class Writer(Protocol):
    """Gets each prediction as it is made, and the totals at the end."""

    def write(self, prediction: Prediction) -> None:
        """One image."""

    def finish(self, summary: Summary) -> None:
        """After the last image."""


@dataclass
class TableWriter:
    """Columns; of two models only the images on which they differ, because that is what was asked."""

    out: Print
    paths: Sequence[Path]
    models: Sequence[str]
    quiet: bool = False
    begun: bool = False

    def __post_init__(self) -> None:
        longest = max((len(printable(str(path))) for path in self.paths), default=0)
        self.width = max(len("image"), min(longest, _PATH_COLUMNS))

    def write(self, prediction: Prediction) -> None:
        """One line for each guess; what could not be read is for standard error."""
        if prediction.problem or (len(self.models) > 1 and prediction.agree):
            return
        if not self.begun:
            self._head()
        names = [shortened(str(prediction.path), self.width)]
        for guesses in zip(*prediction.guesses, strict=True):
            name = names.pop() if names else ""
            self._line(name, [_cells(guess) for guess in guesses])

    def finish(self, summary: Summary) -> None:
        """How often two models differ."""
        if len(self.models) < 2 or not summary.images:
            return
        mean = summary.kl_sum_nats / summary.images
        self.out(
            f"{summary.disagreements} of {summary.images} images get another class; "
            f"mean KL divergence {mean:.4f} nats"
        )

    def _head(self) -> None:
        self.begun = True
        if self.quiet:
            return
        if len(self.models) > 1:
            self._line("", [("", "", name) for name in self.models])
        self._line("image", [("class", "share", "name")] * len(self.models))

    def _line(self, name: str, cells: Sequence[tuple[str, str, str]]) -> None:
        columns = [f"{number:>5}  {share:>7}  {text:<{_NAME_COLUMNS}}" for number, share, text in cells]
        self.out("  ".join([f"{name:<{self.width}}", *columns]).rstrip())


@dataclass
class JsonLinesWriter:
    """One JSON object a line, one line an image."""

    out: Print

    def write(self, prediction: Prediction) -> None:
        """ASCII only."""
        self.out(json.dumps(json_ready(prediction.to_json()), allow_nan=False))

    def finish(self, summary: Summary) -> None:
        """Nothing: each line stands for itself."""


@dataclass
class CsvWriter:
    """One row for each guess; control characters in names are spelled out."""

    out: Print
    compared: bool
    begun: bool = False

    def write(self, prediction: Prediction) -> None:
        """The header comes with the first row."""
        if not self.begun:
            self.begun = True
            other = ["other_class", "other_probability", "other_name"] if self.compared else []
            self._row(["image", "rank", "class", "probability", "name", *other, "error"])
        image = printable(str(prediction.path))
        if prediction.problem:
            empty = [""] * (7 if self.compared else 4)
            self._row([image, *empty, printable(prediction.problem)])
        for rank, guesses in enumerate(zip(*prediction.guesses, strict=True), start=1):
            cells = [cell for guess in guesses for cell in (guess.index, guess.probability, _name(guess))]
            self._row([image, rank, *cells, ""])

    def finish(self, summary: Summary) -> None:
        """Nothing: a last line would be no row."""

    def _row(self, cells: Sequence[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        self.out(line.getvalue())


@dataclass
class DocumentWriter:
    """One JSON document, printed at the end."""

    show: Callable[[object], None]
    models: Sequence[str]
    images: list[dict[str, Any]] = field(default_factory=list)

    def write(self, prediction: Prediction) -> None:
        """Kept for the end."""
        self.images.append(prediction.to_json())

    def finish(self, summary: Summary) -> None:
        """Prints it."""
        totals = summary.to_json(compared=len(self.models) > 1)
        self.show({"models": list(self.models), "summary": totals, "images": self.images})


def _cells(guess: Guess) -> tuple[str, str, str]:
    return str(guess.index), f"{guess.probability:.4f}", shortened_name(_name(guess))


def shortened_name(name: str) -> str:
    """At most so many characters as the column has; of a longer name the beginning."""
    return name if len(name) <= _NAME_COLUMNS else f"{name[: _NAME_COLUMNS - 1]}…"


def _name(guess: Guess) -> str:
    return "" if guess.label is None else printable(guess.label.name)
