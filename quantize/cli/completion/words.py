"""What may follow what on the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quantize.cli.values import OneOf

__all__ = ["PROGRAMS", "Table", "Word", "words_of"]

# Script -> the command that it is. `quantize` itself and `python -m quantize` begin before any command.
PROGRAMS: Mapping[str, str] = {"run_tuning.sh": "tune", "run_benchmark.sh": "benchmark"}

# Words go into the scripts as they are: none of ours needs quotes, and none may.
_PLAIN = re.compile(r"[A-Za-z0-9_.=-]+")


@dataclass(frozen=True)
class Word:
    """A command, or a flag.

    Attributes:
        word: as it is written.
        what: what it does, one line.
        takes_value: a flag that needs a value.
        values: those that it accepts; empty where they cannot be listed.
    """

    word: str
    what: str
    takes_value: bool = False
    values: Sequence[str] = ()

    @property
    def is_flag(self) -> bool:
        """Whether it is no command."""
        return self.word.startswith("-")


# The commands so far, such as "export ort" or "" -> what may follow.
Table = Mapping[str, Sequence[Word]]


def words_of(program: argparse.ArgumentParser) -> Table:
    """What the parser of the whole program accepts, its commands before its flags."""
    return dict(_walk(program, ""))


def _walk(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, Sequence[Word]]]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    below: dict[str, argparse.ArgumentParser] = {}
    commands: list[Word] = []
    flags: list[Word] = []
    for action in shown:
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
            commands = [Word(one.dest, _line(one.help)) for one in action._choices_actions]
            continue
        values = action.type.accepted if isinstance(action.type, OneOf) else ()
        if not action.option_strings:  # such as the shell of `completion`
            commands += [Word(value, _line(action.help)) for value in values]
        takes_value = action.nargs != 0
        flags += [Word(name, _line(action.help), takes_value, values) for name in action.option_strings]
    for word in (*commands, *flags):
        for text in (word.word, *word.values):
            if not _PLAIN.fullmatch(text):
                raise AssertionError(f"{text!r} cannot stand in a shell script")
    yield path, (*commands, *flags)
    for word in commands:
        if word.word not in below:
            yield f"{path} {word.word}".strip(), flags
    for name, inner in below.items():
        yield from _walk(inner, f"{path} {name}".strip())


def _line(text: str | None) -> str:
    """The help of argparse as people see it."""
    return " ".join((text or "").split()).replace("%%", "%")
