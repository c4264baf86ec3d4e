"""`cache`: says what is kept between runs, or removes it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantize.cli.commands.common import Command, add_run_flags, human_output, new_parser, print_json
from quantize.cli.values import one_of, path

if TYPE_CHECKING:
    from quantize.cli.commands.common import Subparsers

__all__ = ["COMMAND"]

_NAME = "cache"
_SUMMARY = "say what is kept between runs, or remove it"

_DESCRIPTION = """Decoded images, the results of fp32 models and the finished work of searches are kept in a
folder, so that the next run need not make them again. `info` says what is there, `clear` removes all of it;
nothing else is touched."""

_EPILOG = """output:
  --json prints one document: folder, size_bytes (info), freed_bytes (clear)

examples:
  python -m quantize cache info
  python -m quantize cache clear --cache_dir=/scratch/cache"""


def _add_parser(subparsers: Subparsers) -> None:
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage="python -m quantize cache info|clear [--cache_dir=DIR]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("action", type=one_of("info", "clear"), metavar="ACTION", help="info or clear")
    parser.add_argument(
        "--cache_dir",
        type=path,
        metavar="DIR",
        help="its folder (default: quantize-pipeline in $XDG_CACHE_HOME or ~/.cache)",
    )
    add_run_flags(parser)


def _run(arguments: argparse.Namespace) -> int:
    from quantize.cache import run_cache

    with human_output(arguments.json):
        found = run_cache(arguments.action, arguments.cache_dir)
    if arguments.json:
        print_json(found)
    return 0


COMMAND = Command(_NAME, _SUMMARY, _add_parser, _run)
