"""Entries on disk: whole or absent, whatever happens."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration import store as module
from calibration.claims import lock
from calibration.store import Store

KEY, OTHER = "ab" + "0" * 62, "ab" + "1" * 62
LIMIT = 10**7


def make(folder: Path, limit_bytes: int = LIMIT) -> tuple[Store, list[str]]:
    warnings: list[str] = []
    return Store(folder, limit_bytes=limit_bytes, warn=warnings.append), warnings


def key(number: int) -> str:
    return f"{number:02x}{number:062x}"


def path_of(folder: Path, name: str = KEY) -> Path:
    return folder / name[:2] / f"{name}.pixels"


@pytest.mark.parametrize(
    "value",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2),
        np.array([1.5, np.nan]),
        np.zeros((0, 3), np.float32),
        np.arange(12, dtype=np.int64).reshape(3, 4).T,
    ],
    ids=["uint8", "float32", "nan", "empty", "not contiguous"],
)
def test_what_is_put_comes_back(tmp_path: Path, value: Any) -> None:
    store, warnings = make(tmp_path)
    assert store.get("pixels", KEY) is None
    store.put("pixels", KEY, value)
    found = store.get("pixels", KEY)
    assert found is not None and found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)
    assert not found.flags.writeable
    assert store.get("logits", KEY) is None and store.get("pixels", OTHER) is None
    assert warnings == []


def test_another_process_finds_it(tmp_path: Path) -> None:
    make(tmp_path)[0].put("pixels", KEY, np.arange(5, dtype=np.uint8))
    found = make(tmp_path)[0].get("pixels", KEY)
    assert found is not None and found.tolist() == [0, 1, 2, 3, 4]


def damaged(content: bytes) -> dict[str, bytes]:
    flipped = bytearray(content)
    flipped[-1] ^= 1
    header = bytearray(content)
    header[50] ^= 1  # in the sizes
    return {
        "empty": b"",
        "half a header": content[:40],
        "half the content": content[: len(content) // 2 + 60],
        "too long": content + b"\0",
        "one bit of the content": bytes(flipped),
        "one bit of the header": bytes(header),
        "zeros, as after a crash of the machine": bytes(len(content)),
    }


@pytest.mark.parametrize("how", list(damaged(bytes(200))))
def test_a_damaged_entry_is_removed_and_can_be_made_again(tmp_path: Path, how: str) -> None:
    store, warnings = make(tmp_path)
    value = np.arange(200, dtype=np.uint8)
    store.put("pixels", KEY, value)
    path = path_of(tmp_path)
    path.write_bytes(damaged(path.read_bytes())[how])
    assert store.get("pixels", KEY) is None
    assert not path.exists()
    store.put("pixels", KEY, value)
    np.testing.assert_array_equal(store.get("pixels", KEY), value)
    assert warnings == []


def test_an_entry_that_was_replaced_is_checked_again(tmp_path: Path) -> None:
    store, _ = make(tmp_path)
    value = np.arange(200, dtype=np.uint8)
    store.put("pixels", KEY, value)
    for _ in range(2):
        np.testing.assert_array_equal(store.get("pixels", KEY), value)
    path = path_of(tmp_path)
    other = tmp_path / "other"
    other.write_bytes(damaged(path.read_bytes())["one bit of the content"])
    os.replace(other, path)
    assert store.get("pixels", KEY) is None


def test_an_entry_under_the_wrong_name_is_not_believed(tmp_path: Path) -> None:
    store, _ = make(tmp_path)
    store.put("pixels", KEY, np.arange(5, dtype=np.uint8))
    os.rename(path_of(tmp_path), path_of(tmp_path, OTHER))
    assert store.get("pixels", OTHER) is None


def test_a_full_disk_is_one_warning_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, warnings = make(tmp_path)
    store.put("pixels", OTHER, np.arange(3, dtype=np.uint8))

    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "write", full)
        store.put("pixels", KEY, np.arange(9, dtype=np.uint8))
    store.put("pixels", KEY, np.arange(9, dtype=np.uint8))  # it does not try again
    assert store.get("pixels", KEY) is None
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [f"{OTHER}.pixels"]
    assert store.get("pixels", OTHER) is not None
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0] and "--cache_dir" in warnings[0]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = make(tmp_path)
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    store.put("pixels", KEY, np.arange(100, dtype=np.uint8))
    found = store.get("pixels", KEY)
    assert found is not None and found.tolist() == list(range(100))


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store, warnings = make(tmp_path / "file" / "cache")
    store.put("pixels", KEY, np.arange(3, dtype=np.uint8))
    assert store.get("pixels", KEY) is None
    assert len(warnings) == 1 and "cannot be written" in warnings[0]
    assert store.usage().total_bytes == 0 and store.clear() == 0


WRITER = """
import sys, numpy as np
from pathlib import Path
from calibration.claims import lock
from calibration.store import Store
store = Store(Path(sys.argv[1]), limit_bytes=10**9, warn=print)
value = np.full((1 << 20,), int(sys.argv[2]), np.uint8)
print("go", flush=True)
while True:
    store.put("pixels", sys.argv[3], value)
"""


def test_readers_see_whole_entries_while_two_runs_write_and_one_is_killed(
    tmp_path: Path, project_root: Path
) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number), KEY],
            cwd=project_root,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    try:
        for run in runs:
            assert run.stdout is not None and run.stdout.readline() == "go\n"
        store, _ = make(tmp_path)
        seen = set()
        for turn in range(300):
            found = store.get("pixels", KEY)
            if found is not None:
                assert found.shape == (1 << 20,) and (found == found[0]).all()
                seen.add(int(found[0]))
            if turn == 150:
                runs[0].send_signal(signal.SIGKILL)
        assert seen
    finally:
        for run in runs:
            run.kill()
            run.wait()
            assert run.stdout is not None
            run.stdout.close()
    final = make(tmp_path)[0].get("pixels", KEY)
    assert final is not None and (final == final[0]).all()


@pytest.mark.parametrize("method", ["usage", "clear", "tidy"])
def test_what_a_killed_run_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path, method: str) -> None:
    store, _ = make(tmp_path)
    store.put("pixels", KEY, np.arange(3, dtype=np.uint8))
    left, written = (tmp_path / "ab" / f".writing-{number}-0" for number in (1, 2))
    left.write_bytes(b"half")
    with written.open("xb") as stream:
        assert lock(stream.fileno())
        getattr(store, method)()
        assert not left.exists() and written.exists()
    store.tidy()
    assert not written.exists()
    assert store.usage().counts == ({} if method == "clear" else {"pixels": 1})


def entry_bytes() -> int:
    return 128 + 1000


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    value = np.zeros(1000, np.uint8)
    old, _ = make(tmp_path)
    for number in range(8):
        old.put("pixels", key(number), value)
        long_ago = time.time() - 1000 + number
        os.utime(path_of(tmp_path, key(number)), (long_ago, long_ago))
    store, warnings = make(tmp_path, 10 * entry_bytes())
    assert store.get("pixels", key(0)) is not None  # the oldest, but used again now
    for number in range(8, 12):
        store.put("pixels", key(number), value)
    there = {number for number in range(12) if store.get("pixels", key(number)) is not None}
    assert store.usage().total_bytes <= 10 * entry_bytes()
    assert {0, 7, 8, 9, 10, 11} <= there and 1 not in there
    assert warnings == []


def test_entries_of_this_run_stay_and_what_does_not_fit_is_a_warning(tmp_path: Path) -> None:
    store, warnings = make(tmp_path, 4 * entry_bytes())
    for number in range(9):
        store.put("pixels", key(number), np.zeros(1000, np.uint8))
    there = [number for number in range(9) if store.get("pixels", key(number)) is not None]
    assert there == [0, 1, 2, 3]
    assert len(warnings) == 1 and "--cache_size" in warnings[0]


def test_what_other_threads_are_about_to_write_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stop just before their first byte; then one has to look at the disk, where nothing is yet."""
    store, warnings = make(tmp_path, 4 * entry_bytes())
    others = threading.Barrier(5)  # four that have been promised their place, and this test
    write = module.write_all

    def held(descriptor: int, content: Any) -> None:
        if threading.current_thread() is not threading.main_thread() and len(content) == 128:
            others.wait(timeout=60)
        write(descriptor, content)

    monkeypatch.setattr(module, "write_all", held)
    value = np.zeros(1000, np.uint8)
    threads = [threading.Thread(target=store.put, args=("pixels", key(n), value)) for n in range(4)]
    for thread in threads:
        thread.start()
    while others.n_waiting < 4:
        time.sleep(0.01)
    store.put("pixels", key(4), value)
    others.wait(timeout=60)
    for thread in threads:
        thread.join()
    assert store.usage().counts == {"pixels": 4}
    assert store.get("pixels", key(4)) is None
    assert len(warnings) == 1


def test_a_share_of_the_limit_is_left_to_other_kinds(tmp_path: Path) -> None:
    store, _ = make(tmp_path, 4 * entry_bytes())
    for number in range(4):
        store.put("pixels", key(number), np.zeros(1000, np.uint8), limit_fraction=0.5)
    store.put("logits", key(0), np.zeros(1000, np.uint8))
    assert store.usage().counts == {"pixels": 2, "logits": 1}


def test_clearing_removes_only_what_is_the_stores(tmp_path: Path) -> None:
    store, _ = make(tmp_path)
    store.put("pixels", KEY, np.zeros(1000, np.uint8))
    store.put("logits", key(7), np.zeros(1000, np.uint8))
    mine = [tmp_path / "ab" / "notes.txt", tmp_path / "photo.pixels", tmp_path / "zz" / f"{KEY}.pixels"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert store.clear() == 2 * entry_bytes()
    assert store.usage().total_bytes == 0
    assert all(path.read_text() == "mine" for path in mine)
    assert not (tmp_path / "07").exists()
