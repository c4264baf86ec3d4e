"""Files are read only if they are files, and only as far as was allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calibration.errors import InputError, quoted
from calibration.regular import open_regular, read_regular


def test_a_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").symlink_to("a")
    with open_regular(tmp_path / "b") as file:
        assert file.read() == b"content"
    assert read_regular(tmp_path / "b", limit_bytes=7, what="x") == b"content"


def test_the_limit_is_the_last_byte_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    with pytest.raises(InputError, match="7 bytes is too large for a poem; is it the right file"):
        read_regular(tmp_path / "a", limit_bytes=6, what="a poem")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_files_that_call_themselves_empty_are_read_and_bounded() -> None:
    path = "/proc/self/status"
    assert os.stat(path).st_size == 0
    assert b"Name:" in read_regular(path, limit_bytes=100_000, what="x")
    with pytest.raises(InputError, match="too large"):
        read_regular(path, limit_bytes=10, what="x")


def test_what_is_not_there_or_a_folder_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_a_pipe_that_takes_the_name_in_between_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    harmless, closed = os.stat(tmp_path / "file"), []
    real = os.close
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda *_, **__: harmless)
        patch.setattr(os, "close", lambda descriptor: closed.append(descriptor) or real(descriptor))
        with pytest.raises(InputError, match="is a pipe"):
            open_regular(tmp_path / "pipe")
    assert len(closed) == 1


def test_values_are_quoted_short() -> None:
    assert quoted("a") == "'a'"
    assert len(quoted("x" * 10**6)) == 121
    assert quoted(10**5000).startswith("a value of type int")
    assert len(quoted(list(range(1000)))) == 121
