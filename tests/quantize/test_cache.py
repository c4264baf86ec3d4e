"""The cache as a user meets it: flags, the command, and a run that must not fail for its sake."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from calibration.store import Store
from quantize.cache import open_store
from quantize.cli import main
from quantize.config import Config
from tests.quantize.cli_stand_ins import MEASURE, TUNE, Recorder, failed


def filled(folder: Path) -> Store:
    store = Store(folder, limit_bytes=10**8, warn=pytest.fail)
    for number in range(3):
        store.put("pixels", f"{number:064x}", np.zeros(10**6, np.uint8))
    store.put("logits", f"{9:064x}", np.zeros(10**5, np.uint8))
    return store


def test_info_and_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "kept"
    filled(folder)
    assert main(["cache", "info", f"--cache_dir={folder}"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{folder}: 3.1 MB",
        "  1 batches of fp32 results, 0.1 MB",
        "  3 decoded images, 3.0 MB",
    ]
    assert err == ""
    assert main(["cache", "clear", f"--cache_dir={folder}"]) == 0
    assert capsys.readouterr().out == f"{folder}: 3.1 MB freed\n"
    assert main(["cache", "info", f"--cache_dir={folder}"]) == 0
    assert capsys.readouterr().out == f"{folder}: 0.0 MB\n"


@pytest.mark.parametrize("action", ["info", "clear"])
@pytest.mark.parametrize("closed", ["", "ab"])
def test_what_cannot_be_read_is_not_called_empty(
    action: str,
    closed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "kept" / "ab").mkdir(parents=True)
    inside, listed = tmp_path / "kept" / closed, os.listdir

    def shut(path: Path) -> list[str]:
        if Path(path) == inside:  # as the system answers everybody but root, who may run the tests
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", shut)
    message = failed(capsys, "cache", action, f"--cache_dir={tmp_path / 'kept'}")
    assert message.startswith(f"--cache_dir {inside}: cannot be read: Permission denied; check the path")


def test_a_file_is_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").write_text("x")
    message = failed(capsys, "cache", "info", f"--cache_dir={tmp_path / 'kept'}")
    assert "cannot be read: Not a directory" in message


def test_the_default_folder_is_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["cache", "info"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'quantize-pipeline'}: 0.0 MB\n"


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "burn" in failed(capsys, "cache", "burn")
    assert "--seed is no flag of cache" in failed(capsys, "cache", "info", "--seed=1")
    assert main(["cache"]) == 2
    assert capsys.readouterr().err == "error: cache needs ACTION; see --help\n"


def test_flags_reach_the_configuration(recorder: Recorder, files: Path) -> None:
    assert main([*TUNE, "--cache_dir=kept", "--cache_size=0.5", "--cache_by_content"]) == 0
    cache = recorder.config.settings.cache
    assert (cache.enabled, cache.dir, cache.size, cache.by_content) == (True, files / "kept", 0.5, True)
    store = open_store(recorder.config, print)
    assert store is not None
    assert (store.folder, store.limit_bytes) == (files / "kept", 500_000_000)
    assert main(["evaluate", *MEASURE, "--no_cache"]) == 0
    assert open_store(recorder.config, print) is None


@pytest.mark.parametrize("size", ["0", "-1", "many", "inf", "nan"])
def test_a_size_is_a_number_of_gigabytes(size: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--cache_size: expected a number of GB" in failed(capsys, *TUNE, f"--cache_size={size}")


def test_contradictions_are_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failed(capsys, *TUNE, "--no_cache", "--cache_dir=kept")
    assert message == "--no_cache and --cache_dir contradict each other; keep one"
    message = failed(capsys, "benchmark", *MEASURE, "--no_cache")
    assert message == "--no_cache has no effect with --mode=performance; leave it out"


def test_the_cache_is_no_part_of_what_determines_the_result(tmp_path: Path) -> None:
    plain = Config.from_mapping({})
    changed = Config.from_mapping({"cache": {"enabled": False, "dir": str(tmp_path), "size": 1.0}})
    assert plain.config_hash() == changed.config_hash()
