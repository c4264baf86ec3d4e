"""What zsh and fish themselves make of their scripts, where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from quantize.cli.commands import ADDED
from quantize.cli.completion import completion_script
from quantize.cli.flags import COMMANDS
from quantize.cli.parser import build

# For one key press in a shell that has just started on a busy machine; a failure waits so long, nothing else.
_PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("zsh", "fish"):
        (folder / f"quantize.{shell}").write_text(completion_script(build(), shell), encoding="utf-8")
    return folder


def found(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"needs {shell}")
    return path


# fish


def offered_by_fish(scripts: Path, line: str) -> dict[str, str]:
    """Candidate -> what fish says of it."""
    done = subprocess.run(
        [found("fish"), "--no-config", "-c", 'source quantize.fish; complete -C "$argv[1]"', line],
        capture_output=True,
        text=True,
        check=False,
        cwd=scripts,
        env={**os.environ, "HOME": str(scripts), "XDG_CONFIG_HOME": str(scripts)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    pairs = (entry.partition("\t") for entry in done.stdout.splitlines())
    return {word: what for word, _, what in pairs}


def test_fish_offers_commands_with_what_they_do(scripts: Path) -> None:
    offered = offered_by_fish(scripts, "quantize ")
    assert set(offered) == {*COMMANDS, *ADDED}
    assert offered["inspect"] == ADDED["inspect"].summary
    assert set(offered_by_fish(scripts, "quantize ins")) == {"inspect"}
    assert set(offered_by_fish(scripts, "quantize export ")) == {"ort", "uint8", "triton"}
    assert set(offered_by_fish(scripts, "python -m quantize pre")) == {"predict", "prepare"}


@pytest.mark.parametrize("program", ["run_tuning.sh", "./run_tuning.sh"])
def test_fish_knows_the_scripts(program: str, scripts: Path) -> None:
    (scripts / "run_tuning.sh").touch(mode=0o755)
    assert set(offered_by_fish(scripts, f"{program} --quant_f")) == {"--quant_format"}
    assert "--mode" not in offered_by_fish(scripts, f"{program} --")
    assert "--mode" in offered_by_fish(scripts, "run_benchmark.sh --")


@pytest.mark.parametrize(
    "line", ["quantize export uint8 m.onnx --layout ", "quantize export uint8 --layout="]
)
def test_fish_offers_values(line: str, scripts: Path) -> None:
    offered = {word.removeprefix("--layout=") for word in offered_by_fish(scripts, line)}
    assert offered == {"NHWC", "NCHW"}


def test_fish_offers_files_where_files_go(scripts: Path) -> None:
    (scripts / "m.onnx").touch()
    assert "m.onnx" in offered_by_fish(scripts, "quantize predict m")
    assert "m.onnx" in offered_by_fish(scripts, "quantize tune --input_model m")
    assert "m.onnx" not in offered_by_fish(scripts, "quantize m")


# zsh


class Zsh:
    """A zsh that is typed into; the line that a key press left is written to a file by a widget."""

    def __init__(self, folder: Path) -> None:
        self.result = folder / "buffer"
        child, self.terminal = pty.fork()
        if child == 0:
            os.chdir(folder)
            environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"}
            os.execve(found("zsh"), ["zsh", "-f", "-i"], environment)
        self.child = child
        self.type(
            "autoload -Uz compinit && compinit -u -D; unsetopt beep auto_list; LISTMAX=0; "
            "source quantize.zsh; "
            "show() { print -r -- $BUFFER > buffer.new; mv buffer.new buffer }; zle -N show; "
            "bindkey '^X' show; bindkey '^I' complete-word; print -r -- ready > buffer\n"
        )
        assert self.line() == "ready"

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def line(self) -> str:
        end_s = time.monotonic() + _PATIENCE_S
        while not self.result.exists():
            assert time.monotonic() < end_s, "zsh does not answer"
            if select.select([self.terminal], [], [], 0.05)[0]:
                os.read(self.terminal, 65536)  # what it draws, so that it never waits for a reader
        text = self.result.read_text(encoding="utf-8").rstrip("\n")
        self.result.unlink()
        return text

    def completed(self, text: str) -> str:
        """The line after `text` and Tab."""
        self.type("\x15" + text + "\t\x18")  # ^U removes what is there
        return self.line()

    def close(self) -> None:
        os.close(self.terminal)  # it hangs up
        os.waitpid(self.child, 0)


@pytest.fixture(scope="module")
def zsh(scripts: Path) -> object:
    found("zsh")
    for name in ("image.png", "tuned.onnx"):
        (scripts / name).touch()
    (scripts / "run_tuning.sh").touch(mode=0o755)
    shell = Zsh(scripts)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("quantize ins", "quantize inspect "),
        ("quantize export tri", "quantize export triton "),
        ("quantize completion zs", "quantize completion zsh "),
        ("quantize export uint8 m.onnx --lay", "quantize export uint8 m.onnx --layout="),
        ("quantize export uint8 --layout=NC", "quantize export uint8 --layout=NCHW "),
        ("quantize export uint8 --layout NC", "quantize export uint8 --layout NCHW "),
        ("quantize tune --verb", "quantize tune --verbose "),
        ("quantize predict ima", "quantize predict image.png "),
        ("quantize tune --input_model=tun", "quantize tune --input_model=tuned.onnx "),
        ("quantize predict tune --comp", "quantize predict tune --compare="),
        ("python -m quantize insp", "python -m quantize inspect "),
        ("python3 -m quantize tune --metric top1", "python3 -m quantize tune --metric top1 "),
        ("./run_tuning.sh --quant_f", "./run_tuning.sh --quant_format="),
        ("run_benchmark.sh --mod", "run_benchmark.sh --mode="),
    ],
)
def test_zsh(typed: str, line: str, zsh: Zsh) -> None:
    assert zsh.completed(typed) == line
