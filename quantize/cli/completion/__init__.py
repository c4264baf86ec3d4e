"""Completion for shells, generated from the parsers, so that it knows what they know."""

from __future__ import annotations

import argparse

from quantize.cli.completion import bash, fish, zsh
from quantize.cli.completion.words import words_of

__all__ = ["SHELLS", "completion_script"]

_SCRIPTS = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}
SHELLS = tuple(_SCRIPTS)


def completion_script(program: argparse.ArgumentParser, shell: str) -> str:
    """What a shell (bash 3.2, zsh 5, fish 3 or newer) evaluates, for the parser of the whole program."""
    return _SCRIPTS[shell](words_of(program))
