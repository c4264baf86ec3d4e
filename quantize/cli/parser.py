"""Text → arguments. Usage errors become one line; nothing heavy is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from quantize.cli import texts
from quantize.cli.commands import ADDED
from quantize.cli.commands.common import Version, add_flags, environment, help_format
from quantize.cli.flags import BENCHMARK, COMMANDS, EVALUATE, FLAGS, PERFORMANCE, TUNE, Flag
from quantize.errors import InputError

__all__ = ["build", "flag_names", "parse"]

# What run_benchmark.sh is in 1.x; the command has a name of its own here.
_OTHER_COMMANDS = {"run_benchmark": BENCHMARK, "run_tuning": TUNE}

# They choose the images that accuracy is measured on; speed is measured on the first ones, all of them good.
_CHOICE_FLAGS = frozenset(
    {"calibration_samples", "selection_samples", "eval_samples", "allow_overlap", "seed", "on_bad_image"}
)

# Every command, in the order of the help.
_ALL = (*COMMANDS, *ADDED)

# They say what is kept of the images that accuracy is measured on; the few for speed are not worth it.
_CACHE_FLAGS = frozenset({"cache_dir", "cache_size", "cache_by_content", "no_cache"})


_ENVIRONMENT = environment("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "NO_COLOR", "PYTHON")

# Headings of flags that choose images, where nothing is refined or searched.
_MEASURING_GROUPS = {"selection_samples": "images", "seed": "images"}


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would print two lines and exit."""

    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ")
        if text.endswith(": expected one argument"):
            name = text.partition(":")[0].partition("/")[0]
            text = f"{name} has no value; write {name}=VALUE"
        elif "ignored explicit argument" in text:
            text = f"{text.partition(':')[0]} is a switch and takes no value; write it alone"
        elif text.startswith("the following arguments are required: "):
            # Of nothing that has a command's own name: `prog` ends in it.
            missing = text.partition(": ")[2]
            text = f"{self.prog.rpartition(' ')[2]} needs {missing}; see --help"
        raise InputError(text)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Argparse's own says nothing where the help cannot be written."""
        stream = file or sys.stderr
        if message and stream is not None:
            stream.write(message)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: without the program's name. Flags may be written with dashes instead of underscores, and
            their values behind `=` or as the next argument.

    Returns:
        One attribute per flag of the command (None or False where it was not given), and `command`.

    Raises:
        InputError: a command or flag is unknown, a value is missing or of the wrong kind.
        SystemExit: help or the version was asked for, and has been printed.
    """
    words = [_with_underscores(word) for word in arguments]
    if words and not words[0].startswith("-"):
        words[0] = _OTHER_COMMANDS.get(words[0], words[0])
        if words[0] not in _ALL:
            raise InputError(f"{arguments[0]!r} is no command; {_nearest(words[0], _ALL)}")
    elif words and not {"-h", "--help", "--version"} & set(words):
        raise InputError(f"say what to do before {arguments[0]!r}: {', '.join(_ALL)}")
    program = build()
    known, unknown = program.parse_known_args(words)
    if unknown and known.command in ADDED:
        _refuse_added(unknown, known.command, program)
    if unknown:
        _refuse(unknown, known.command)
    if known.quiet and known.verbose:
        raise InputError("--quiet and --verbose contradict each other; keep one")
    if known.command == BENCHMARK:
        _refuse_idle(known)
    return known


def _with_underscores(word: str) -> str:
    """`--dataset-location=a-b` → `--dataset_location=a-b`."""
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _refuse(unknown: Sequence[str], command: str) -> NoReturn:
    first = unknown[0]
    if not first.startswith("-"):
        raise InputError(f"{first!r} belongs to no flag; write --flag=value, with quotes around spaces")
    name = first.partition("=")[0]
    owners = [flag for flag in FLAGS if f"--{flag.name}" == name]
    if owners:
        raise InputError(
            f"{name} is a flag of {' and '.join(owners[0].commands)}, not of {command}; remove it"
        )
    own = [flag for flag in FLAGS if command in flag.commands]
    names = [name for flag in own for name in (f"--{flag.name}", *flag.other_names)]
    raise InputError(f"{name} is no flag of {command}; {_nearest(name, names)} See --help")


def _refuse_added(unknown: Sequence[str], command: str, program: argparse.ArgumentParser) -> NoReturn:
    first = unknown[0]
    if not first.startswith("-"):
        raise InputError(
            f"{command}: {first!r} is one argument too many, or comes after a flag: flags go last; see --help"
        )
    name = first.partition("=")[0]
    long_names = [known for known in flag_names(program, command) if known.startswith("--")]
    raise InputError(f"{name} is no flag of {command}; {_nearest(name, long_names)} See --help")


def flag_names(program: argparse.ArgumentParser, *commands: str) -> list[str]:
    """The flags of a command and of its own commands, in the order of its help, without repetition."""
    parser = program
    for command in commands:
        parser = _commands_of(parser)[command]
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    names = [name for action in shown for name in action.option_strings]
    inner = [name for other in _commands_of(parser).values() for name in flag_names(other)]
    return list(dict.fromkeys([*names, *inner]))


def _commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _refuse_idle(known: argparse.Namespace) -> None:
    """Refuse what the chosen mode of the benchmark would ignore; accuracy is `evaluate` by another name."""
    mode = known.mode or PERFORMANCE
    for flag in FLAGS:
        acts = (
            flag.name not in _CHOICE_FLAGS | _CACHE_FLAGS
            if mode == PERFORMANCE
            else EVALUATE in flag.commands
        )
        value = getattr(known, flag.name, None)
        given = value is not None and value is not False  # 0 is given
        if given and not acts and flag.name != "mode":
            raise InputError(f"--{flag.name} has no effect with --mode={mode}; leave it out")


def _nearest(name: str, known: Sequence[str]) -> str:
    from quantize.config.suggest import did_you_mean  # imports the whole configuration: only when needed

    return did_you_mean(name, known)


def _worded(flag: Flag, command: str) -> Flag:
    """The flag with the help that it has in a command."""
    if command == TUNE or flag.name not in texts.MEASURING:
        return flag
    return replace(flag, help=texts.MEASURING[flag.name], group=_MEASURING_GROUPS.get(flag.name, flag.group))


def build() -> argparse.ArgumentParser:
    """The parser of the whole program."""
    main: argparse.ArgumentParser = _Parser(
        prog="python -m quantize",
        description=texts.DESCRIPTION,
        epilog="\n\n".join((texts.PROGRAM_EXAMPLES, _ENVIRONMENT, texts.EXIT_CODES[TUNE])),
        formatter_class=help_format,
        allow_abbrev=False,
    )
    main.add_argument("--version", action=Version, nargs=0, help="print the version and stop")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for command in COMMANDS:
        parser = commands.add_parser(
            command,
            help=texts.SUMMARIES[command],
            usage=texts.USAGES[command],
            description=texts.DESCRIPTIONS[command],
            epilog="\n\n".join(
                (texts.OUTPUTS[command], texts.EXAMPLES[command], _ENVIRONMENT, texts.EXIT_CODES[command])
            ),
            formatter_class=help_format,
            allow_abbrev=False,
        )
        parser.add_argument("--version", action=Version, nargs=0, help=argparse.SUPPRESS)
        add_flags(parser, [_worded(flag, command) for flag in FLAGS if command in flag.commands])
    for added in ADDED.values():
        added.add_parser(commands)
    return main
