"""Disks that are full, read-only or elsewhere than they should be."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quantize.cli import main
from tests.robustness.programs import FILES, Program, contents
from tests.robustness.tiny import write_tiny

Mount = Callable[[Path, str], None]
QUICK = ("--refine=none", "--threads=2")

# Root may write anywhere as long as it has this capability (and the one to read anything); others never had.
BOUND_BY_PERMISSIONS = """
import ctypes
class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
header, sets, libc = Header(0x20080522, 0), (ctypes.c_uint32 * 6)(), ctypes.CDLL(None, use_errno=True)
if libc.capget(ctypes.byref(header), sets) == 0:
    sets[0], sets[1] = sets[0] & ~0b110, sets[1] & ~0b110
    assert libc.capset(ctypes.byref(header), sets) == 0
"""


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts small file systems in memory; unmounts them at the end."""
    mounted: list[Path] = []

    def make(folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tool = shutil.which("mount")
        command = [tool or "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if tool is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs the permission to mount a tmpfs")
        mounted.append(folder)

    yield make
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def errors(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what went wrong."""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.robustness(
    "Faults",
    "the disk of the output folder is full (a small tmpfs, or a limit on the size of files)",
    "exit code 3, one line that names the file and the reason; what was there before is intact",
)
@pytest.mark.parametrize("size", ["20k", "36k", "60k"])
def test_output_on_a_full_disk(size: str, program: Program, mount: Mount) -> None:
    mount(program.out, f"size={size}")
    for name in FILES[2:]:
        (program.out / name).write_text(f"earlier {name}")
    before = contents(program.out)
    done = program.run(*QUICK)
    assert done.returncode == 3
    assert errors(done).endswith("No space left on device; what was there is untouched; free some space")
    assert contents(program.out) == before
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "the disk of the output folder is full (a small tmpfs, or a limit on the size of files)",
    "exit code 3, one line that names the file and the reason; what was there before is intact",
)
def test_files_larger_than_allowed(program: Program) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))"
    program = Program(program.root, program.given, cached=False)
    program.out.mkdir()
    (program.out / "report.json").write_text("earlier")
    done = program.run(*QUICK, "--no_cache", prelude=limit)
    assert done.returncode == 3
    assert "File too large" in errors(done) and "(ulimit -f)" in errors(done)
    assert contents(program.out) == {"report.json": b"earlier"}
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "the process may write only small files (`ulimit -f`), or have only few open (`ulimit -n`)",
    "exit code 3, one line that names the limit to raise; nothing is written",
)
@pytest.mark.parametrize(
    ("limit", "least", "cure"),
    [("RLIMIT_FSIZE", 1_000, "ulimit -f"), *(("RLIMIT_NOFILE", few, "ulimit -n") for few in (6, 7, 8))],
)
def test_limits_of_the_process(limit: str, least: int, cure: str, program: Program) -> None:
    prelude = f"import resource; resource.setrlimit(resource.{limit}, ({least}, {least}))"
    program = Program(program.root, program.given, cached=False)
    done = program.run(*QUICK, "--no_cache", "--no_html", prelude=prelude)
    assert done.returncode == 3
    assert f"({cure})" in errors(done)
    assert "permissions" not in errors(done) and "take it off the list" not in errors(done)
    assert not program.out.exists()


@pytest.mark.robustness(
    "Faults",
    "the disk of the cache is full",
    "a warning, once; the run goes on without and gives the same models",
)
def test_cache_on_a_full_disk(program: Program, mount: Mount) -> None:
    assert program.run(*QUICK, "--no_html").returncode == 0
    expected = {name: (program.out / name).read_bytes() for name in FILES[:2]}
    mount(program.cache, "size=64k")
    done = program.run(*QUICK, "--no_html")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "cannot be written" in line]
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0] and "--cache_dir" in warnings[0]
    assert {name: (program.out / name).read_bytes() for name in FILES[:2]} == expected
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "the disk of the workspace is full",
    "exit code 3 or 2 and one line; what was there before is intact",
)
@pytest.mark.parametrize("size", ["8k", "12k"])
def test_workspace_on_a_full_disk(size: str, program: Program, mount: Mount) -> None:
    mount(program.root / "trials", f"size={size}")
    (program.root / "trials" / "mine").write_text("x")
    done = program.run(*QUICK, f"--workspace={program.root / 'trials'}")
    assert done.returncode in (2, 3)
    assert "No space left on device" in errors(done)
    assert [path.name for path in (program.root / "trials").iterdir()] == ["mine"]
    assert not program.out.exists()
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "the folder for temporary files is full",
    "exit code 2 or 3 and one line that says so; what was there before is intact",
)
@pytest.mark.parametrize("options", ["size=4k", "nr_inodes=2"])
def test_temporary_files_on_a_full_disk(options: str, program: Program, mount: Mount) -> None:
    mount(program.temporary, options)
    program.out.mkdir()
    (program.out / "report.json").write_text("earlier")
    done = program.run(*QUICK)
    assert done.returncode in (2, 3)
    line = errors(done)
    assert "space" in line and "TMPDIR" in line, line
    assert contents(program.out) == {"report.json": b"earlier"}
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "the output folder is read-only: a read-only mount, or another user's",
    "refused before any work, exit code 2 and one line",
)
def test_output_is_read_only(program: Program, mount: Mount) -> None:
    mount(program.out, "size=1m,ro")
    done = program.run(*QUICK)
    assert done.returncode == 2
    assert "is read-only" in errors(done) or "Read-only file system" in errors(done)


@pytest.mark.robustness(
    "Faults",
    "the output folder is read-only: a read-only mount, or another user's",
    "refused before any work, exit code 2 and one line",
)
def test_output_of_another_user(program: Program) -> None:
    program.out.mkdir()
    (program.out / "report.json").write_text("earlier")
    program.out.chmod(0o555)
    done = program.run(*QUICK, prelude=BOUND_BY_PERMISSIONS)
    assert done.returncode == 2
    assert errors(done).endswith(f"{program.out} is read-only; choose a writable folder")
    assert contents(program.out) == {"report.json": b"earlier"}


SPELLINGS = {
    "itself": lambda folder: folder / "m.onnx",
    "a symbolic link": lambda folder: folder / "symbolic.onnx",
    "a hard link": lambda folder: folder / "hard.onnx",
    "dots": lambda folder: folder / "deeper" / ".." / "m.onnx",
    "a linked folder": lambda folder: folder / "linked" / "m.onnx",
    "the QDQ name beside it": lambda folder: folder / "other.onnx",
}


@pytest.mark.robustness(
    "Faults",
    "--output_model means the input model, also through links, dots, a linked folder or the second format",
    "refused before any work, exit code 2; the input is intact",
)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_output_is_input(
    spelling: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deeper").mkdir()
    model = tmp_path / ("other-qdq.onnx" if "QDQ" in spelling else "m.onnx")
    shutil.copy(tiny / "net.onnx", model)
    if "QDQ" not in spelling:
        (tmp_path / "symbolic.onnx").symlink_to(model)
        os.link(model, tmp_path / "hard.onnx")
        (tmp_path / "linked").symlink_to(tmp_path)
    output = SPELLINGS[spelling](tmp_path)
    flags = [f"--input_model={model}", f"--config={tiny / 'c.yaml'}", f"--output_model={output}"]
    assert main(["tune", *flags]) == 2
    assert "would overwrite the input model; name another place" in capsys.readouterr().err
    assert model.read_bytes() == (tiny / "net.onnx").read_bytes()


HOMES = {
    "missing": "import pwd\ndef nobody(_): raise KeyError\npwd.getpwuid = nobody",
    "read-only": BOUND_BY_PERMISSIONS,
    "not a folder": "",
}


@pytest.mark.robustness(
    "Faults",
    "HOME is missing, read-only or not a folder, and TMPDIR names no folder",
    "the run goes on with a warning that nothing is cached",
)
@pytest.mark.parametrize("home", HOMES)
def test_no_home(home: str, program: Program) -> None:
    (program.root / "file").touch()
    program.home.chmod(0o555)
    place = {"missing": None, "read-only": str(program.home), "not a folder": str(program.root / "file")}[
        home
    ]
    more = {"HOME": place, "XDG_CACHE_HOME": None, "TMPDIR": str(program.root / "absent")}
    done = Program(program.root, program.given, more, cached=False).run(*QUICK, prelude=HOMES[home])
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    reason = "no home folder is known" if home == "missing" else "cannot be written"
    (warning,) = [line for line in done.stderr.splitlines() if reason in line]
    assert "--cache_dir" in warning
    assert set(contents(program.out)) == set(FILES)


def test_resuming_needs_a_home(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    flags = [flag for flag in program.flags(*QUICK, "--resume") if not flag.startswith("--cache_dir")]
    for command in (["tune", *flags], ["cache", "info"]):
        assert main(command) == 2
        assert "no home folder is known" in capsys.readouterr().err
    assert not program.out.exists()


def test_no_place_for_temporary_files(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(**_: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    monkeypatch.setattr("tempfile.mkdtemp", none)
    assert main(["tune", *program.flags(*QUICK)]) == 2
    assert "set TMPDIR to a writable folder" in capsys.readouterr().err


@pytest.mark.robustness(
    "Faults",
    "links in a circle stand where the workspace, the images or the output should be; TMPDIR is no UTF-8",
    "refused, exit code 2 and one line that names the place",
    times=5,
)
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--workspace=LOOP", "LOOP"),
        ("--dataset_location=LOOP", "LOOP"),
        ("--output_model=LOOP", "LOOP"),
        ("--output_model=LOOP/out", "LOOP"),
        ("TMPDIR", "set TMPDIR to another folder"),
    ],
)
def test_places_that_cannot_be(
    flag: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = write_tiny(tmp_path / "tiny")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    words = [f"--input_model={tiny}/net.onnx", f"--config={tiny}/c.yaml", f"--output_model={tmp_path}/out"]
    if flag == "TMPDIR":
        odd = os.fsencode(tmp_path) + b"/\xff"
        os.mkdir(odd)
        monkeypatch.setattr(tempfile, "tempdir", os.fsdecode(odd))
    else:
        words.append(flag.replace("LOOP", str(loop)))
    assert main(["tune", *words, "--no_cache", "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said.replace("LOOP", str(loop)) in line
    assert "internal error" not in line
