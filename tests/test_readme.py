"""The README names what exists, all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quantize.cli.commands import ADDED
from quantize.cli.flags import COMMANDS, FLAGS, TUNE
from quantize.target import TARGETS


@pytest.fixture(scope="module")
def readme(project_root: Path) -> str:
    return (project_root / "README.md").read_text(encoding="utf-8")


def test_the_table_has_every_flag_of_the_main_job_and_no_other(readme: str) -> None:
    table = readme.partition("## Flags of `run_tuning.sh`")[2].partition("exit code")[0]
    described = dict(re.findall(r"^\| `--(\w+)[^`]*` \| (.*) \|$", table, re.MULTILINE))
    expected = {
        flag.name: flag.help.replace("%%", "%").replace("|", "/") for flag in FLAGS if TUNE in flag.commands
    }
    assert described == expected


@pytest.mark.parametrize("command", [*ADDED, "benchmark"])
def test_every_command_is_shown(readme: str, command: str) -> None:
    assert command in (*ADDED, *COMMANDS)
    assert f"quantize {command}" in readme or f"run_{command}.sh" in readme


def test_every_target_is_explained(readme: str) -> None:
    assert all(f"`{name}`" in readme for name in TARGETS)


def test_links_lead_somewhere(readme: str, project_root: Path) -> None:
    prose = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)  # what commands print has links of its own
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (project_root / target).exists(), target
