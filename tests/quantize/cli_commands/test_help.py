"""What holds for the help and the flags of every command."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from quantize.cli import main
from quantize.cli.commands import ADDED
from quantize.cli.flags import COMMANDS, FLAGS
from quantize.cli.parser import _commands_of, build, flag_names
from quantize.cli.texts import MEASURING
from tests.quantize.cli_stand_ins import PROJECT, failed

WORDS = [[name] for name in ADDED] + [
    ["export", "ort"],
    ["export", "uint8"],
    ["export", "triton"],
    ["prepare", "model"],
    ["prepare", "imagenet"],
]


# These two have commands of their own, which have the flags.
PARENTS = (["export"], ["prepare"])


def text_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_reads_like_a_manual_page(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = text_of(words, capsys)
    assert text.startswith(f"usage: python -m quantize {' '.join(words)}")
    for heading in ("exit codes:", "\n  130  "):
        assert heading in text
    assert re.search(r"\nexamples?:\n  ", text)
    assert max(map(len, text.splitlines())) <= 110
    if words not in PARENTS:
        assert all(name in text for name in flag_names(build(), *words))


@pytest.mark.parametrize("words", [words for words in WORDS if words not in PARENTS], ids=" ".join)
def test_every_command_can_speak_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--json" in flag_names(build(), *words)
    assert re.search(r"--json +print(s)? one", text_of(words, capsys))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_older_commands_can_as_well(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--json" in flag_names(build(), command)
    text = text_of([command], capsys)
    assert re.search(r"\n  --json prints one document: ", text)
    assert max(map(len, text.splitlines())) <= 110
    headings = ["usage: ", "\nfiles:", "\nimages:", "\nrun:", "\noutput:", "\nexample", "\nenvironment:"]
    places = [text.index(heading) for heading in [*headings, "\nexit codes:"]]
    assert places == sorted(places)


def test_flags_say_what_they_are_for_in_the_command_that_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    tune, evaluate = (text_of([command], capsys) for command in ("tune", "evaluate"))
    assert "the fp32 model" in tune
    assert "the model, fp32 or int8 (required)" in evaluate
    assert "refinement of the integer model:" in tune
    for heading in ("refinement of the integer model:", "search:"):
        assert heading not in evaluate
    assert set(MEASURING) <= {flag.name for flag in FLAGS if "evaluate" in flag.commands}


HEEDED = {"prepare model": "https_proxy", "sensitivity": "ORT_DISABLE_TELEMETRY", "export ort": "ORT_DISABLE"}


@pytest.mark.parametrize(("words", "variable"), HEEDED.items())
def test_environment_variables_are_named(
    words: str, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text_of(words.split(), capsys)
    assert variable in text.partition("\nenvironment:\n")[2]


VALUED = [[command] for command in COMMANDS] + [words for words in WORDS if words not in PARENTS]


@pytest.mark.parametrize("words", VALUED, ids=" ".join)
def test_every_flag_with_a_value_says_what_it_is_without(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its default, that it is required, or that it replaces something else that has one."""
    parser = build()
    for word in words:
        parser = _commands_of(parser)[word]
    silent = [
        action.option_strings[0]
        for action in parser._actions
        if action.option_strings and action.nargs != 0 and action.help and "SUPPRESS" not in action.help
        if not re.search(
            r"\(.*(default|required)|instead|refine this|the (fp32 )?model|the YAML", action.help
        )
    ]
    assert set(silent) <= UNSAID, silent


# What is left out where these are: nothing, as their own words say.
UNSAID = {
    "--label_path",
    "--output_model",
    "--sensitivity",
    "--devkit",
    "--ground_truth",
    "--synsets",
    "--tensor",
}


def test_examples_parse() -> None:
    """Every line of an example that calls this program is one that it accepts."""
    program = build()
    for command in ADDED.values():
        text = command_help(command.name)
        text = text.replace("\\\n", " ")
        lines = re.findall(r"^  (?:.*\| )?python -m quantize (.+?)(?: >>? .*)?$", text, re.M)
        examples = [line for line in lines if not line.endswith(("--help", ")"))]
        assert examples or command.name == "completion", command.name
        for line in examples:
            program.parse_args(shlex.split(line))


def command_help(name: str) -> str:
    parser = _commands_of(build())[name]
    inner = _commands_of(parser).values()
    return "\n".join(found.format_help() for found in (parser, *inner))


def test_the_program_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = text_of([], capsys)
    for command in ADDED.values():
        assert re.search(rf"\n    {command.name} +{re.escape(command.summary)}\n", text)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        f"import sys\nfrom quantize.cli import main\nmain({[*words, '--help']!r})\n"
        "heavy = {'numpy', 'pydantic', 'onnx', 'onnxruntime', 'yaml', 'rich', 'PIL', 'cv2', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_verbose_and_quiet_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "m.onnx", "--quiet", "--verbose"]) == 2
    assert capsys.readouterr().err.endswith("--quiet and --verbose contradict each other; keep one\n")


def test_flags_go_last(capsys: pytest.CaptureFixture[str]) -> None:
    message = failed(capsys, "predict", "m.onnx", "a.png", "--top_k=1", "b.png")
    assert message.startswith("predict: 'b.png' is one argument too many, or comes after a flag")
