"""What the commands with positional arguments share: the shape of their help, common flags, their output.

A command is a module with a `COMMAND`. Its `add_parser` may import nothing heavy: `--help` runs all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from quantize.cli.flags import Flag
from quantize.version import VERSION

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = [
    "Command",
    "Version",
    "add_flags",
    "add_run_flags",
    "add_threads",
    "environment",
    "help_format",
    "human_output",
    "new_parser",
    "print_json",
    "print_lines",
    "verbosity",
]

# Environment variable -> what it does; every help has those of its command.
_VARIABLES = {
    "XDG_CACHE_HOME": "the cache is the folder quantize-pipeline in it (default: ~/.cache)",
    "ORT_DISABLE_TELEMETRY": "0 allows ONNX Runtime's own telemetry, which is off here (default: 1)",
    "NO_COLOR": "anything but nothing: no colours on a terminal",
    "PYTHON": "of run_*.sh: the interpreter to use, or to make .venv of (default: one that fits)",
    "https_proxy, no_proxy": "the proxy for downloads, and hosts to reach without it (default: none)",
}

# The terminal's width is not asked for: help is the same everywhere, and may be pasted into the README.
_HELP_WIDTH = 110

_CODES = """exit codes:
  0  done{special}
  2  wrong input or usage; one line on stderr says which and what to do
  3  the runtime or the system failed (--verbose shows where)
  130  interrupted; files that were there before are untouched"""


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: the word that calls it.
        summary: what it does, for the list of commands.
        add_parser: adds its parser to the program's.
        run: does it; returns the exit code.
    """

    name: str
    summary: str
    add_parser: Callable[[Subparsers], None]
    run: Callable[[argparse.Namespace], int]


class Version(argparse.Action):
    """Prints the version and stops."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        """Ends the program, as argparse's own actions of this kind do."""
        print(f"quantize {VERSION}")
        parser.exit()


def help_format(prog: str) -> argparse.HelpFormatter:
    """Prose stays as it was written, and columns are where they are in every command."""
    return _Format(prog, max_help_position=32, width=_HELP_WIDTH)


class _Format(argparse.RawDescriptionHelpFormatter):
    """Leaves room for the indentation of commands, which argparse forgets, so that none wraps."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment


def environment(*names: str) -> str:
    """The section of a help on the environment variables that a command heeds."""
    width = max(map(len, names))
    return "environment:\n" + "\n".join(f"  {name:{width}s}  {_VARIABLES[name]}" for name in names)


def new_parser(
    subparsers: Subparsers,
    name: str,
    *,
    summary: str,
    usage: str,
    description: str,
    epilog: str,
    special_codes: str = "",
    variables: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """A parser whose help reads like a manual page: usage, description, arguments, examples, exit codes.

    Args:
        subparsers: of the program, or of a command that has commands itself.
        name: the word that calls it.
        summary: one line.
        usage: the line after "usage:".
        description: paragraphs.
        epilog: what follows the flags: output, files, examples.
        special_codes: exit codes that only this command has, each on a line of its own.
        variables: environment variables that it heeds.
    """
    special = f"\n{special_codes}" if special_codes else ""
    parts = [
        epilog.strip(),
        *([environment(*variables)] if variables else []),
        _CODES.format(special=special),
    ]
    parser = subparsers.add_parser(
        name,
        help=summary,
        usage=usage,
        description=description,
        epilog="\n\n".join(parts),
        formatter_class=help_format,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, nargs=0, help=argparse.SUPPRESS)
    return parser


def add_flags(parser: argparse.ArgumentParser, flags: Sequence[Flag]) -> None:
    """Adds flags of the table, each under its heading."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for flag in flags:
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        group = groups[flag.group]
        names = sorted((f"--{flag.name}", *flag.other_names), key=lambda name: name.startswith("--"))
        if flag.parse is None:
            group.add_argument(*names, dest=flag.name, action="store_true", help=flag.help)
        else:
            group.add_argument(*names, dest=flag.name, type=flag.parse, metavar=flag.metavar, help=flag.help)


def add_run_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The flags that every command has."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document on standard output, and nothing else there",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print the result and errors only")
    group.add_argument("-v", "--verbose", action="store_true", help="print tracebacks of errors")
    return group


def add_threads(group: argparse._ArgumentGroup) -> None:
    """The flag for those commands that run models."""
    from quantize.cli.values import whole_number

    group.add_argument(
        "--threads", type=whole_number, metavar="N", help="threads to use (default: all cores)"
    )


def verbosity(arguments: argparse.Namespace) -> Literal["quiet", "normal", "verbose"]:
    """What `--quiet` and `--verbose` come to."""
    if arguments.quiet:
        return "quiet"
    return "verbose" if arguments.verbose else "normal"


def print_json(document: object) -> None:
    """One document, ASCII only: control characters in it arrive as escapes."""
    from quantize.printable import json_ready

    print(json.dumps(json_ready(document), indent=2, ensure_ascii=True, allow_nan=False))


def print_lines(text: str, *, end: str = "\n") -> None:
    """Text for a person, also on a terminal that lacks some of its characters."""
    reconfigure: Any = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    print(text, end=end, flush=True)


@contextlib.contextmanager
def human_output(as_json: bool) -> Iterator[None]:
    """Sends what is printed for people to standard error while standard output is for JSON."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
