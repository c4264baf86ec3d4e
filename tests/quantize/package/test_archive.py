from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from quantize.package.archive import tar_gz, unpacked

FILES = {"net/net.onnx": b"model" * 1000, "net/test_data_set_0/input_0.pb": b"\0\1", "net/empty": b""}


def test_what_goes_in_comes_out_sorted_and_without_a_trace_of_the_machine() -> None:
    packed = tar_gz(FILES)
    assert unpacked(packed) == FILES
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == [
        "net",
        "net/test_data_set_0",
        "net/empty",
        "net/net.onnx",
        "net/test_data_set_0/input_0.pb",
    ]
    assert {(e.mtime, e.uid, e.gid, e.uname, e.gname) for e in entries} == {(0, 0, 0, "", "")}
    assert {e.mode for e in entries if e.isfile()} == {0o644}
    # Bytes 4 to 8 of a gzip header are the time; flag bit 3 says that a name follows (RFC 1952).
    assert packed[4:8] == b"\0\0\0\0"
    assert packed[3] == 0


def test_the_order_of_insertion_and_the_time_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tar_gz(FILES)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert tar_gz(dict(reversed(FILES.items()))) == one


def test_tar_itself_can_extract_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(tar_gz(FILES))
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path, filter="data")
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES


def test_names_of_the_greatest_length_that_is_allowed(tmp_path: Path) -> None:
    name = "n" * 100
    files = {f"{name}/{name}.onnx": b"model", f"{name}/test_data_set_0/input_0.pb": b"x"}
    packed = tar_gz(files)
    assert unpacked(packed) == files
    assert tar_gz(files) == packed
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert {entry.mtime for entry in tar} == {0}
