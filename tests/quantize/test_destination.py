"""Names of the results, and how they get there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from quantize.destination import plan_destination, staging
from quantize.errors import InputError, PipelineError
from quantize.moving import move_into_place


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
    assert not (tmp_path / "new folder").exists()  # nothing is made before there is something to keep


def test_a_folder_gets_files_named_after_the_input(tmp_path: Path) -> None:
    found = names(tmp_path / "out" / "deeper", tmp_path / "mobilenetv2-12.onnx")
    assert found == {
        "QOperator": "mobilenetv2-12-int8.onnx",
        "QDQ": "mobilenetv2-12-qdq.onnx",
        "report": "report.json",
    }
    assert not (tmp_path / "out").exists()


def test_the_report_for_people_is_beside_the_json(tmp_path: Path) -> None:
    found = plan_destination(tmp_path / "a.b.onnx", tmp_path / "m.onnx", ("QDQ",))
    assert [path.name for path in found.files] == [
        "a.b.onnx",
        "a.b-report.json",
        "a.b-report.html",
        "a.b-report.md",
    ]
    assert [path.name for path in found.failed().files] == [
        "a.b-failed.onnx",
        "a.b-report-failed.json",
        "a.b-report-failed.html",
        "a.b-report-failed.md",
    ]


@pytest.mark.parametrize("name", ["x-report.html", "x-report-failed.md"])
def test_a_folder_in_the_way_of_a_report_is_named_before_work(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder"):
        plan_destination(tmp_path / "x.onnx", tmp_path / "m.onnx", ("QDQ",))


def test_the_suffix_counts_in_any_case(tmp_path: Path) -> None:
    assert names(tmp_path / "x.ONNX", tmp_path / "m.onnx")["QOperator"] == "x.ONNX"


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
    with pytest.raises(InputError, match="file is a file; name another place"):
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
    (tmp_path / "out").write_bytes(b"came in between")
    with pytest.raises(InputError, match="a file of that name exists"), staging(destination):
        raise AssertionError("not reached")


@pytest.fixture
def staged(tmp_path: Path) -> dict[Path, Path]:
    """Two new files in a staging folder; the second replaces an older one."""
    (tmp_path / "staging").mkdir()
    moves = {tmp_path / "staging" / name: tmp_path / f"final {name}" for name in ("a", "b")}
    for source in moves:
        source.write_text(f"new {source.name}")
    (tmp_path / "final b").write_text("old b")
    return moves


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_moving_replaces_everything(staged: dict[Path, Path], tmp_path: Path) -> None:
    move_into_place(staged)
    assert contents(tmp_path) == {"final a": "new a", "final b": "new b"}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["final a", "final b"])
def test_a_failed_move_leaves_everything_as_it_was(
    *,
    failing: str,
    error: BaseException,
    links: bool,
    staged: dict[Path, Path],
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    replace = os.replace

    def fails_once(source: Path, target: Path) -> None:
        if target.name == failing and source.name in ("a", "b"):
            raise error
        replace(source, target)

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "replace", fails_once)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    expected = PipelineError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        move_into_place(staged)
    assert contents(tmp_path) == {"final b": "old b"}
