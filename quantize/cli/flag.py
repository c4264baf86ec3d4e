"""What a flag of the command line is, and the commands that have them; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quantize.cli.values import whole_number

__all__ = ["ACCURACY", "BENCHMARK", "COMMANDS", "EVALUATE", "PERFORMANCE", "TUNE", "Flag", "number_flag"]

TUNE, EVALUATE, BENCHMARK = "tune", "evaluate", "benchmark"
COMMANDS = (TUNE, EVALUATE, BENCHMARK)

# What the benchmark measures; of accuracy, it is `evaluate` by another name.
PERFORMANCE, ACCURACY = "performance", "accuracy"


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: as it is written, without the leading dashes.
        group: the heading it is listed under.
        help: what it does, and its default.
        commands: which commands have it.
        parse: text → value; None for a switch, which takes no value.
        metavar: what stands for the value in the help.
        field: the dotted configuration field it sets, None where it takes more than that.
        other_names: further names, with their dashes.
    """

    name: str
    group: str
    help: str
    commands: tuple[str, ...] = (TUNE,)
    parse: Callable[[str], object] | None = None
    metavar: str | None = None
    field: str | None = None
    other_names: tuple[str, ...] = ()


def number_flag(name: str, group: str, help: str, commands: tuple[str, ...], field: str | None) -> Flag:
    """A flag that takes a whole number."""
    return Flag(name, group, help, commands, whole_number, "N", field)
