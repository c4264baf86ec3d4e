"""The same verification for a person: one compact table, and one line that says what to do with it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantize.criterion import Criterion
from quantize.printable import printable
from quantize.report.console import TableConsole
from quantize.report.kernel_tables import kernel_table, profile_table
from quantize.report.verdict import Verdict, criterion_interval, percent
from quantize.verify import FP32, Artefact, FileFacts, Verification

_BYTES_PER_MB = 1e6
_WIDTH_COLUMNS = 80
_NONE = "-"


def show(
    verification: Verification,
    criterion: Criterion,
    verdict: Verdict,
    *,
    kernels: bool = False,
    stream: IO[str] | None = None,
) -> None:
    """Print the tables and the verdict, in colour only on a terminal and without `NO_COLOR`.

    Args:
        verification: what was measured.
        criterion: decides whose decline is shown.
        verdict: as `judge` found it.
        kernels: count the kernels by operator kind as well.
        stream: where to; standard output by default.
    """
    _print(TableConsole(file=stream, highlight=False), verification, criterion, verdict, kernels=kernels)


def render(
    verification: Verification,
    criterion: Criterion,
    verdict: Verdict,
    *,
    kernels: bool = False,
    width_columns: int = _WIDTH_COLUMNS,
) -> str:
    """The same as plain text without colour."""
    stream = io.StringIO()
    console = TableConsole(
        file=stream, width=width_columns, force_terminal=False, no_color=True, highlight=False
    )
    _print(console, verification, criterion, verdict, kernels=kernels)
    return stream.getvalue()


def _print(
    console: Console, verification: Verification, criterion: Criterion, verdict: Verdict, *, kernels: bool
) -> None:
    if kernels:
        console.print(kernel_table(verification))
    if verification.fp32.profile_ms is not None:
        console.print(profile_table(verification))
    console.print(_table(verification, criterion))
    for warning in verification.warnings:
        console.print(Text(printable(f"warning: {warning}"), style="yellow"), soft_wrap=True)
    # Not wrapped: the verdict is one line, for people and for `grep` alike.
    console.print(
        Text(verdict.sentence, style="bold green" if verdict.passed else "bold red"), soft_wrap=True
    )


def _table(verification: Verification, criterion: Criterion) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{verification.images} images, {verification.classes} classes",
        title_justify="left",
        title_style="",
        pad_edge=False,
    )
    table.add_column("")
    for name in ("fp32", *verification.artefacts):
        table.add_column(name, justify="right")
    fp32 = verification.fp32

    def file_row(label: str, show_file: Callable[[FileFacts], str]) -> None:
        files = (fp32, *(artefact.facts for artefact in verification.artefacts.values()))
        table.add_row(label, *(show_file(facts) for facts in files))

    def int8_row(label: str, of_fp32: str, show_artefact: Callable[[Artefact], str]) -> None:
        table.add_row(
            label, of_fp32, *(show_artefact(artefact) for artefact in verification.artefacts.values())
        )

    file_row("top-1", lambda facts: f"{facts.counts.top1:.2%}")
    file_row("top-5", lambda facts: f"{facts.counts.top5:.2%}")
    label = f"{criterion.kind} decline of {criterion.metric_label}"
    int8_row(
        label,
        _NONE,
        lambda artefact: percent(criterion_interval(artefact, criterion).estimate, criterion.kind),
    )
    int8_row("  95 % interval", _NONE, lambda artefact: _interval(artefact, criterion))
    int8_row("  images lost / won", _NONE, lambda artefact: _lost_won(artefact, criterion))
    int8_row("agreement with fp32", _NONE, lambda artefact: f"{artefact.fidelity.agreement:.2%}")
    if any(artefact.facts.counts.top1_ties for artefact in verification.artefacts.values()):
        file_row("images with tied top-1", lambda facts: str(facts.counts.top1_ties))
    int8_row("KL(fp32, int8), nats", _NONE, lambda artefact: f"{artefact.fidelity.kl:.4f}")
    file_row(
        "integer operators",
        lambda facts: f"{facts.judged_coverage.integer_weighted}/{facts.judged_coverage.weighted}",
    )
    int8_row("exact on every CPU", _NONE, lambda artefact: _exact(artefact, verification))
    file_row("size, MB", lambda facts: f"{facts.size_bytes / _BYTES_PER_MB:.2f}")
    file_row(
        f"latency, ms (batch {verification.latency_images}, 1 thread)",
        lambda facts: f"{facts.latency.median_ms:.2f}",
    )
    int8_row("speed-up", "1.00x", lambda artefact: f"{artefact.speed_up:.2f}x")
    found = verification.throughput
    if found is not None:
        rates = (found.images_per_s[name] for name in (FP32, *verification.artefacts))
        table.add_row(f"images/s (batch {found.batch_size}, 1 thread)", *(f"{rate:.0f}" for rate in rates))
    return table


def _interval(artefact: Artefact, criterion: Criterion) -> str:
    interval = criterion_interval(artefact, criterion)
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def _exact(artefact: Artefact, verification: Verification) -> str:
    """Whether it is proven, whatever the target asks; CPUs are beside the point of other targets."""
    if not verification.target.on_cpu or not artefact.portability.equality.images:
        return _NONE
    return "yes" if artefact.portability.exact else "no"


def _lost_won(artefact: Artefact, criterion: Criterion) -> str:
    outcomes = artefact.decline(criterion.metric).outcomes
    return f"{outcomes.lost} / {outcomes.won}"
