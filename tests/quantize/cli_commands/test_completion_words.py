"""What the scripts for shells are made of, and their shape, on machines that lack these shells too."""

from __future__ import annotations

import argparse
import re

import pytest

from quantize.cli.commands import ADDED
from quantize.cli.completion import SHELLS, completion_script
from quantize.cli.completion.words import words_of
from quantize.cli.flags import COMMANDS, FLAGS
from quantize.cli.parser import build, flag_names
from quantize.cli.values import one_of


def test_every_command_and_flag_is_known() -> None:
    table = words_of(build())
    assert {one.word for one in table[""] if not one.is_flag} == {*COMMANDS, *ADDED}
    for command in (*COMMANDS, *ADDED):
        below = [path for path in table if path == command or path.startswith(f"{command} ")]
        offered = {one.word for path in below for one in table[path] if one.is_flag}
        assert offered == set(flag_names(build(), command))
    assert [one.word for one in table["export"] if not one.is_flag] == ["ort", "uint8", "triton"]
    assert [one.word for one in table["completion"] if not one.is_flag] == list(SHELLS)


def test_what_a_flag_takes() -> None:
    tune = {one.word: one for one in words_of(build())["tune"]}
    for flag in FLAGS:
        if "tune" in flag.commands:
            assert tune[f"--{flag.name}"].takes_value is (flag.parse is not None), flag.name
    assert tuple(tune["--refine"].values) == ("none", "fast", "full")
    assert tune["--input_model"].values == ()
    # As people read it, not as argparse wants it written.
    assert "1%" in tune["--tolerable_loss"].what
    assert "%%" not in tune["--tolerable_loss"].what


@pytest.mark.parametrize("word", ["a b", "it's", "$HOME", "a`b", "a:b", "tür"])
def test_no_word_needs_quotes(word: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", type=one_of("plain", word))
    with pytest.raises(AssertionError, match="cannot stand in a shell script"):
        words_of(parser)


def hostile() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    inner = parser.add_subparsers().add_parser("run", help="it's `date` $(date) \\ \"x\": 5%% 'q' # no")
    inner.add_argument("--kind", type=one_of("a", "b"), help="it's $HOME: \\' %(metavar)s")
    return parser


@pytest.mark.parametrize("shell", SHELLS)
def test_help_texts_cannot_break_out_of_their_quotes(shell: str) -> None:
    """Whatever is left outside of single quotes is the script's own."""
    script = completion_script(hostile(), shell)
    single = r"'(?:[^'\\]|\\.)*'" if shell == "fish" else r"'[^']*'|\\'"
    rest = "\n".join(re.sub(single, "", line) for line in script.splitlines() if "run" in line)
    assert "date" not in rest
    assert "HOME" not in rest


@pytest.mark.parametrize("shell", SHELLS)
def test_every_program_and_every_flag_is_in_the_script(shell: str) -> None:
    script = completion_script(build(), shell)
    for name in ("quantize", "python", "run_tuning.sh", "run_benchmark.sh"):
        assert re.search(rf"\b{re.escape(name)}\b", script)
    for flag in FLAGS:
        written = f" -l {flag.name} " if shell == "fish" else f"--{flag.name}"
        assert written in script, flag.name
    assert script.endswith("\n")
    assert "None" not in script
