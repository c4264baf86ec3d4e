"""What the shell scripts set up: when `.venv` is made, updated, made again or left alone.

pip is replaced by a recorder and the making of a virtual environment by a link, in a copy of the checkout.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

PROJECT = Path(__file__).resolve().parent.parent
BASE = os.path.realpath(sys._base_executable)


class Installer:
    """`setup_environment.py` of a checkout, with pip replaced by a recorder and venv by a link."""

    def __init__(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module = load(checkout / "scripts/setup_environment.py")
        self.installs: list[tuple[str, ...]] = []
        self.pip_error: BaseException | None = None
        monkeypatch.setattr(self.module, "run_pip", self._run_pip)
        monkeypatch.setattr(self.module.subprocess, "run", self._make_venv)

    def _run_pip(self, *arguments: str) -> None:
        if self.pip_error:
            raise self.pip_error
        self.installs.append(arguments)

    def _make_venv(self, command: list[str], **_: object) -> SimpleNamespace:
        python = Path(command[-1]) / "bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(BASE)
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    def __call__(self, *arguments: str) -> int:
        self.installs.clear()
        return self.module.main(list(arguments))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installer(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    return Installer(checkout, monkeypatch)


def test_installs_once_from_the_pins(installer: Installer, checkout: Path) -> None:
    assert installer("check", "run") == 1
    assert installer("install", "run") == 0
    packages, project = installer.installs
    assert packages[-2:] == ("-r", str(checkout / "requirements.lock"))
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps"} == set(packages[:-2])
    assert project[-1] == str(checkout)
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(project)
    assert installer("check", "run") == 0
    assert installer("install", "run") == 0
    assert installer.installs == []


def test_development_tools_are_added_in_place_and_stay(installer: Installer, checkout: Path) -> None:
    installer("install", "run")
    kept = checkout / ".venv/kept"
    kept.touch()
    assert installer("check", "dev") == 1
    assert installer("install", "dev") == 0
    assert installer.installs[0][-1] == str(checkout / "requirements-dev.lock")
    (checkout / "requirements.lock").write_text("# newer pins\n", encoding="utf-8")
    assert installer("install", "run") == 0
    assert installer.installs[0][-1] == str(checkout / "requirements-dev.lock")
    assert installer("check", "dev") == 0
    assert kept.exists()


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock", "requirements-dev.lock"])
def test_a_changed_requirement_installs_again(installer: Installer, checkout: Path, name: str) -> None:
    installer("install", "run")
    with (checkout / name).open("a", encoding="utf-8") as handle:
        handle.write("# changed\n")
    assert installer("check", "run") == 1
    assert installer("install", "run") == 0
    assert installer.installs != []


def test_a_moved_checkout_makes_its_environment_anew(
    installer: Installer, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer("install", "run")
    (checkout / ".venv/old").touch()
    moved = Installer(checkout.rename(checkout.with_name("moved")), monkeypatch)
    assert moved("check", "run") == 1
    assert moved("install", "run") == 0
    assert not (checkout.with_name("moved") / ".venv/old").exists()


def test_another_interpreter_makes_the_environment_anew(installer: Installer, checkout: Path) -> None:
    installer("install", "run")
    assert installer("check", "run", BASE) == 0
    assert installer("check", "run", "/opt/other/python3.12") == 1
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to("/nowhere/python3.11")  # uninstalled
    assert installer("check", "run") == 1
    assert installer("install", "run") == 0


def test_an_interrupted_installation_starts_over(
    installer: Installer, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installer.pip_error = KeyboardInterrupt()  # what Ctrl-C raises
    assert installer("install", "run") == 130
    (checkout / ".venv/half").touch()
    assert installer("check", "run") == 1
    installer.pip_error = None
    assert installer("install", "run") == 0
    assert not (checkout / ".venv/half").exists()
    assert "replacing the unfinished" in capsys.readouterr().err


def test_a_failed_installation_is_one_line_and_leaves_nothing_that_looks_ready(
    installer: Installer, capsys: pytest.CaptureFixture[str]
) -> None:
    installer.pip_error = installer.module.SetupError("installing failed: no such package", exit_code=3)
    assert installer("install", "run") == 3
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("setup: ")]
    assert errors == ["error: installing failed: no such package"]
    assert installer("check", "run") == 1


@pytest.mark.parametrize("link", [False, True], ids=["folder", "link"])
def test_an_environment_of_someone_else_is_not_touched(
    installer: Installer, checkout: Path, tmp_path: Path, link: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs" if link else checkout / ".venv"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("home = /opt\n", encoding="utf-8")
    if link:
        (checkout / ".venv").symlink_to(theirs)
    assert installer("install", "run") == 2
    assert [path.name for path in theirs.iterdir()] == ["pyvenv.cfg"]
    assert "was not made by this script" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(
    installer: Installer, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / ".venv.lock").mkdir()
    assert installer("install", "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot set up {checkout / '.venv'}: ")


def test_an_unreadable_stamp_means_not_ready(installer: Installer, checkout: Path) -> None:
    installer("install", "run")
    for content in ("", "{", "[]"):
        (checkout / ".venv/quantize-pipeline.json").write_text(content, encoding="utf-8")
        assert installer("check", "run") == 1
    assert installer("install", "run") == 0


def test_a_second_process_waits_and_then_uses_what_the_first_made(
    installer: Installer, checkout: Path
) -> None:
    with (checkout / ".venv.lock").open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [BASE, str(checkout / "scripts/setup_environment.py"), "install", "run"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        assert "waiting for it" in second.stderr.readline()
        installer.module.install("run", None)
    _, rest = second.communicate(timeout=60)
    assert (second.returncode, rest) == (0, "")


@pytest.mark.parametrize(
    ("log", "part"),
    [
        (
            "WARNING: Failed to establish a new connection: [Errno 111]\nERROR: No matching distribution",
            "check the network",
        ),
        (
            "Collecting x\nERROR: Could not find a version of x==9\nERROR: for help visit\n",
            "Could not find a version of x==9",
        ),
        (
            "Collecting x\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n",
            "not the one that was pinned",
        ),
        ("killed", "no reason"),
    ],
)
def test_why_pip_failed_is_said_in_one_line(installer: Installer, log: str, part: str) -> None:
    reason = installer.module.explain(log)
    assert part in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("requirement", "extra", "satisfied"),
    [
        ("engine==3.7.1", "run", True),
        ("engine==3.7.2", "run", False),
        ("engine<4,>=3", "run", True),
        ("absent>=1", "run", None),
        ('absent>=1; extra == "dev"', "run", True),
        ('absent>=1; extra == "dev"', "dev", None),
        ('absent>=1; extra == "train"', "dev", True),
    ],
)
def test_probe_reads_requirements(requirement: str, extra: str, satisfied: bool | None) -> None:
    probe = load(PROJECT / "scripts/probe.py")

    def version(name: str) -> str:
        if name != "engine":
            raise ImportError(name)
        return "3.7.1"

    if satisfied is None:
        with pytest.raises(ImportError):
            probe.is_satisfied(requirement, extra, version)
    else:
        assert probe.is_satisfied(requirement, extra, version) is satisfied


def test_probe_tells_the_version_and_does_not_take_another_checkout_for_this_one(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "scripts/probe.py"), str(checkout), "run"],
        capture_output=True,
        text=True,
        check=True,
    )
    version, kind, base = done.stdout.rstrip("\n").split(" ", 2)
    assert version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert kind in {"venv", "bare"}
    assert base == BASE
