"""`completion`: the script that teaches a shell the commands and flags."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantize.cli.commands.common import Command, add_run_flags, new_parser, print_json, print_lines
from quantize.cli.values import one_of

if TYPE_CHECKING:
    from quantize.cli.commands.common import Subparsers

__all__ = ["COMMAND"]

_NAME = "completion"
_SUMMARY = "print a script that completes commands and flags in a shell"

_DESCRIPTION = """Prints a script that makes a shell complete the commands, flags and words of this program:
of `quantize`, of `python -m quantize` (in bash, unless something else completes python already), and of
run_tuning.sh and run_benchmark.sh. zsh and fish show what each is for. It is made from the flags of this
version; make it anew after an update."""

# As `quantize.cli.completion.SHELLS`, which --help need not import.
_SHELLS = ("bash", "zsh", "fish")

_EPILOG = """output:
  --json prints one document: shell, script

files:
  none is written; where each shell looks for such scripts is in the examples

examples:
  eval "$(python -m quantize completion bash)"                 bash, for this shell
  source <(python -m quantize completion zsh)                  zsh, for this shell
  python -m quantize completion bash >> ~/.bash_completion     bash, for all that come
  python -m quantize completion zsh > ~/.zfunc/_quantize       zsh, where ~/.zfunc is in fpath before compinit
  python -m quantize completion fish > ~/.config/fish/completions/quantize.fish"""


def _add_parser(subparsers: Subparsers) -> None:
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage="python -m quantize completion bash|zsh|fish",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("shell", type=one_of(*_SHELLS), metavar="SHELL", help="bash, zsh or fish")
    add_run_flags(parser)


def _run(arguments: argparse.Namespace) -> int:
    from quantize.cli.completion import completion_script
    from quantize.cli.parser import build

    script = completion_script(build(), arguments.shell)
    if arguments.json:
        print_json({"shell": arguments.shell, "script": script})
    else:
        print_lines(script, end="")
    return 0


COMMAND = Command(_NAME, _SUMMARY, _add_parser, _run)
