"""The ranking of the command `sensitivity`, for the terminal."""

from __future__ import annotations

from typing import IO

from rich import box
from rich.table import Table
from rich.text import Text

from quantize.diagnose.record import Record
from quantize.printable import printable
from quantize.report.console import TableConsole

# What fits a screen; the record has all.
_ROWS = 20

# Names of operators are paths; in a file or a pipe nothing has to break them.
_FILE_COLUMNS = 160


def show_ranking(record: Record, *, stream: IO[str] | None = None) -> None:
    """Prints the most harmful operators of a complete record, and what all of them do together."""
    console = TableConsole(file=stream, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_COLUMNS
    settings, int8 = record.settings, record.int8
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="")
    table.title = f"{settings['measured_images']} calibration images, most harmful operators first"
    for label in ("operator", "type"):
        table.add_column(label, overflow="fold")
    for label in ("KL alone", "agreement", "top-1", "KL without", "saved", "top-1"):
        table.add_column(label, justify="right")
    saved = record.saved_nats()
    for one in record.operators[:_ROWS]:
        table.add_row(
            Text(printable(one.name)),
            Text(printable(one.op_type)),
            f"{one.alone.kl_nats:.5f}",
            f"{one.alone.agreement_fraction:.1%}",
            f"{one.alone.top1_fraction:.1%}",
            f"{one.without.kl_nats:.5f}",
            f"{saved[one.name]:.5f}",
            f"{one.without.top1_fraction:.1%}",
        )
    console.print(table)
    hidden = len(record.operators) - _ROWS
    if hidden > 0:
        console.print(f"{hidden} more are in the file.")
    if int8 is not None:
        console.print(
            f"all of them int8 (ranges {record.rule}, {_refined(record)}): KL {int8.kl_nats:.5f} nats, "
            f"agreement {int8.agreement_fraction:.1%}, "
            f"top-1 {int8.top1_fraction:.1%} (fp32 {record.fp32_top1_fraction:.1%})",
            soft_wrap=True,
        )


def _refined(record: Record) -> str:
    return "not refined" if record.effort == "none" else f"refined: {record.effort}"
