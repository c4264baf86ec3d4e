"""What killed runs leave is removed, and never what a living one uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration import claims
from calibration.claims import CLAIM, abandoned, claimed_file, claimed_folder, lock
from quantize.scratch import staging_folder, sweep_staged, sweep_temporary, temporary_folder
from tests.robustness.programs import PROJECT

pytestmark = pytest.mark.robustness(
    "Faults",
    "temporary files and folders of killed and of living runs lie side by side",
    "the next run removes those of the dead and touches neither those of the living nor anybody else's",
)

_HOLDS = """
import sys
from pathlib import Path
from quantize.scratch import staging_folder, temporary_folder
from calibration.claims import claimed_file
out = Path(sys.argv[1])
with staging_folder(out) as staged, temporary_folder("demo") as scratch:
    descriptor, file = claimed_file(out, ".quantize-", ".tmp")
    (staged / "half.onnx").write_text("half")
    (scratch / "inner").mkdir()
    print(staged, scratch, file, sep="\\n", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[Path]]]:
    """A process that uses a staging folder, a temporary folder and a half-written file."""
    (tmp_path / "out").mkdir()
    (tmp_path / "temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path / "temporary")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, [Path(process.stdout.readline().strip()) for _ in range(3)]
    process.kill()
    process.communicate()


def sweep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    sweep_staged(folder / "out")
    sweep_temporary()


def test_a_living_run_keeps_its_files(
    held: tuple[subprocess.Popen[str], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, paths = held
    sweep(tmp_path, monkeypatch)
    assert all(path.exists() for path in paths)
    assert (paths[0] / "half.onnx").read_text() == "half"
    process.kill()
    process.wait()
    sweep(tmp_path, monkeypatch)
    assert not any(path.exists() for path in paths)


@pytest.mark.parametrize(
    "name", [".quantize-report.json", ".quantize-abcdefgh.txt", "quantize-demo-abcdefgh"]
)
def test_only_our_own_names_are_touched(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / CLAIM).touch()
    (tmp_path / ".quantize-12345678").mkdir()
    (tmp_path / ".quantize-12345678" / "somebody else's").touch()
    sweep_staged(tmp_path)
    assert (tmp_path / name / CLAIM).exists()
    assert (tmp_path / ".quantize-12345678" / "somebody else's").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / "precious" / CLAIM).touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".quantize-abcdefgh").symlink_to(tmp_path / "precious")
    (tmp_path / "out" / ".quantize-abcdefgh.tmp").symlink_to(tmp_path / "precious" / "file")
    left = tmp_path / "out" / ".quantize-bbbbbbbb"
    left.mkdir()
    (left / CLAIM).touch()
    (left / "link").symlink_to(tmp_path / "precious")
    sweep_staged(tmp_path / "out")
    assert (tmp_path / "precious" / "file").read_text() == "kept"
    assert not left.exists()


def test_a_folder_that_was_never_claimed_goes_if_it_is_empty_and_old(tmp_path: Path) -> None:
    folder = tmp_path / ".quantize-abcdefgh"
    folder.mkdir()
    sweep_staged(tmp_path)
    assert folder.is_dir()  # somebody may be about to write into it
    os.utime(folder, (0, 0))
    sweep_staged(tmp_path)
    assert os.listdir(tmp_path) == []


def test_whoever_loses_a_new_folder_to_a_sweep_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moments between making a folder or file and claiming it."""
    real, calls = claims.lock, []

    def swept_first(descriptor: int) -> bool | None:
        calls.append(descriptor)
        if len(calls) == 1:
            monkeypatch.setattr(claims, "lock", real)
            sweep_staged(tmp_path)
            monkeypatch.setattr(claims, "lock", swept_first)
        return real(descriptor)

    monkeypatch.setattr(claims, "lock", swept_first)
    with claimed_folder(tmp_path, ".quantize-") as folder:
        (folder / "x").touch()
        assert os.listdir(tmp_path) == [folder.name]
    calls.clear()
    descriptor, path = claimed_file(tmp_path, ".quantize-", ".tmp")
    assert path.exists()
    os.close(descriptor)


def test_without_locks_nothing_is_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(claims.fcntl, "flock", unsupported)
    with staging_folder(tmp_path) as folder:
        assert lock(0) is None
        sweep_staged(tmp_path)
        assert folder.exists()
        with abandoned(folder) as ours:
            assert not ours
    assert os.listdir(tmp_path) == []


def test_temporary_folders_end_with_their_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder("kernels") as folder:
        (folder / "deep" / "er").mkdir(parents=True)
    assert os.listdir(tmp_path) == []
