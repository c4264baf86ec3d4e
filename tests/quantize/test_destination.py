"""Names of the results, and how they get there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from quantize.destination import move_into_place, plan_destination, staging
from quantize.errors import InputError, PipelineError


def names(output: Path, source: Path, formats: tuple[Any, ...] = ("QOperator", "QDQ")) -> dict[str, str]:
    found = plan_destination(output, source, formats)
    assert all(path.parent == found.folder for path in (*found.models.values(), found.report))
    return {str(kind): path.name for kind, path in found.models.items()} | {"report": found.report.name}


@pytest.mark.parametrize(
    ("output", "qoperator", "qdq", "report"),
    [
        ("small-int8.onnx", "small-int8.onnx", "small-qdq.onnx", "small-int8-report.json"),
        ("small.onnx", "small.onnx", "small-qdq.onnx", "small-report.json"),
        ("a.b.onnx", "a.b.onnx", "a.b-qdq.onnx", "a.b-report.json"),
        ("int8.onnx", "int8.onnx", "int8-qdq.onnx", "int8-report.json"),
    ],
)
def test_a_file_name(output: str, qoperator: str, qdq: str, report: str, tmp_path: Path) -> None:
    expected = {"QOperator": qoperator, "QDQ": qdq, "report": report}
    assert names(tmp_path / "new folder" / output, tmp_path / "m.onnx") == expected
    assert (tmp_path / "new folder").is_dir()


def test_a_folder_is_created(tmp_path: Path) -> None:
    found = names(tmp_path / "out" / "deeper", tmp_path / "mobilenetv2-12.onnx")
    assert found == {
        "QOperator": "mobilenetv2-12-int8.onnx",
        "QDQ": "mobilenetv2-12-qdq.onnx",
        "report": "report.json",
    }
    assert (tmp_path / "out" / "deeper").is_dir()


def test_a_single_format_gets_the_very_name(tmp_path: Path) -> None:
    assert names(tmp_path / "x-int8.onnx", tmp_path / "m.onnx", ("QDQ",))["QDQ"] == "x-int8.onnx"
    assert names(tmp_path / "o", tmp_path / "m.onnx", ("QDQ",))["QDQ"] == "m-qdq.onnx"


def test_a_relative_name_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan_destination(Path("x.onnx"), Path("m.onnx"), ("QDQ",)).models["QDQ"] == tmp_path / "x.onnx"


def test_what_failed_says_so(tmp_path: Path) -> None:
    failed = plan_destination(tmp_path / "x-int8.onnx", tmp_path / "m.onnx", ("QOperator", "QDQ")).failed()
    assert failed.models["QOperator"].name == "x-int8-failed.onnx"
    assert failed.models["QDQ"].name == "x-qdq-failed.onnx"
    assert failed.report.name == "x-int8-report-failed.json"


@pytest.mark.parametrize(
    "how", ["itself", "symlink", "hard link", "the QDQ name", "the failed name", "folder"]
)
def test_the_input_is_never_overwritten(how: str, tmp_path: Path) -> None:
    source = tmp_path / {"the QDQ name": "x-qdq.onnx", "the failed name": "x-failed.onnx"}.get(how, "m.onnx")
    output = tmp_path / ("m.onnx" if how == "itself" else "x.onnx")
    source.write_bytes(b"fp32")
    if how == "symlink":
        output.symlink_to(source)
    elif how == "hard link":
        os.link(source, output)
    elif how == "folder":
        source, output = tmp_path / "m-int8.onnx", tmp_path
        source.write_bytes(b"fp32")
        (tmp_path / "m-int8-int8.onnx").symlink_to(source)
    with pytest.raises(InputError, match="would overwrite the input model"):
        plan_destination(output, source, ("QOperator", "QDQ"))
    assert source.read_bytes() == b"fp32"


def test_the_input_is_recognized_through_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.onnx").write_bytes(b"fp32")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="would overwrite"):
        plan_destination(tmp_path / "link" / "m.onnx", tmp_path / "real" / "m.onnx", ("QDQ",))


def test_folders_in_the_way(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(InputError, match="is a folder; name another file"):
        plan_destination(tmp_path / "x.onnx", tmp_path / "m.onnx", ("QDQ",))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="a file of that name exists"):
        plan_destination(tmp_path / "file", tmp_path / "m.onnx", ("QDQ",))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="read-only; choose a writable folder"):
        plan_destination(tmp_path / "other", tmp_path / "m.onnx", ("QDQ",))


@pytest.mark.parametrize("error", [None, RuntimeError("crash"), KeyboardInterrupt()])
def test_staging_leaves_nothing(error: BaseException | None, tmp_path: Path) -> None:
    destination = plan_destination(tmp_path / "out", tmp_path / "m.onnx", ("QDQ",))
    try:
        with staging(destination) as folder:
            (folder / "half").write_bytes(b"written")
            assert folder.parent == destination.folder
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        assert error is not None
    assert os.listdir(destination.folder) == []


def test_staging_needs_the_folder(tmp_path: Path) -> None:
    destination = plan_destination(tmp_path / "out", tmp_path / "m.onnx", ("QDQ",))
    destination.folder.rmdir()
    with pytest.raises(InputError, match="cannot write into"), staging(destination):
        raise AssertionError("not reached")


def test_moving_replaces_in_order(tmp_path: Path) -> None:
    for name in ("a", "b", "final"):
        (tmp_path / name).write_text(name)
    move_into_place({tmp_path / "a": tmp_path / "final", tmp_path / "b": tmp_path / "report"})
    assert (tmp_path / "final").read_text() == "a"
    assert sorted(os.listdir(tmp_path)) == ["final", "report"]


def test_a_failed_move_says_what_is_in_place(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("a", "b", "second"):
        (tmp_path / name).write_text(name)
    replace = os.replace

    def second_fails(source: Path, target: Path) -> None:
        if target.name == "second":
            raise OSError(errno.EACCES, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    moves = {tmp_path / "a": tmp_path / "first", tmp_path / "b": tmp_path / "second"}
    with pytest.raises(PipelineError, match="second: Permission denied; in place already: first"):
        move_into_place(moves)
    assert (tmp_path / "second").read_text() == "second"
