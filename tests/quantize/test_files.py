"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from quantize.errors import InputError, PipelineError
from quantize.files import atomic_write_bytes, atomic_write_text, make_folder, sha256_of_file


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "ä" / "x y.bin"
    make_folder(path.parent)
    atomic_write_bytes(path, b"one")
    atomic_write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert os.listdir(path.parent) == [path.name]


def test_gets_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    ordinary, written = tmp_path / "ordinary", tmp_path / "written"
    ordinary.write_bytes(b"")
    atomic_write_bytes(written, b"")
    assert written.stat().st_mode == ordinary.stat().st_mode


def test_takes_names_as_long_as_the_system_does(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    atomic_write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("what", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), PipelineError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["disk full", "Ctrl-C"],
)
def test_a_failure_leaves_what_was_there(
    what: str, raised: BaseException, expected: type[BaseException], tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(os, what, fail)
    with pytest.raises(expected):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        PipelineError, match=r"could not write .*: No space left on device; .* untouched"
    ) as caught:
        atomic_write_bytes(tmp_path / "x", b"new")
    assert caught.value.exit_code == 3


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="it is a folder"):
        atomic_write_bytes(tmp_path, b"")
    with pytest.raises(InputError, match=r"cannot write into .*absent"):
        atomic_write_bytes(tmp_path / "absent" / "x", b"")
    with pytest.raises(InputError, match="a file of that name exists"):
        make_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot create the folder .*Not a directory"):
        make_folder(tmp_path / "file" / "inner")


def test_hash_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(data)
    assert sha256_of_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()
