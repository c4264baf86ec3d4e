"""A bounded folder of arrays that survives anything: two runs at once, a killed run, a full disk.

Each entry is a file of its own. It is written under a temporary name and renamed, so a reader finds all of it
or nothing; it carries its key, its shape and a checksum of its bytes, so what a crash of the machine or a
broken disk left of it is recognized, removed and made again. What cannot be written is a warning, once, and
the run goes on without. Only files that bear this module's own names are ever removed.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from calibration.claims import abandoned, living, lock
from calibration.entry import HEADER_BYTES, Array, as_bytes, packed_header, parsed, write_all

Warn = Callable[[str], None]

_ENTRY_NAME = re.compile(r"[0-9a-f]{64}\.(?P<kind>[a-z]+)")
_FOLDER_NAME = re.compile(r"[0-9a-f]{2}")
_TEMPORARY_PREFIX = ".writing-"
# A pipe in the place of an entry would be waited for.
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0)

# Other runs write too: the folder is measured again after each so many bytes of ours.
_BYTES_BETWEEN_SCANS = 256 << 20
# Removal goes on to this share of the limit, so that it does not come again with every entry.
_KEPT_FRACTION = 0.75
# What is no larger is read instead of mapped: the pixels of an ImageNet network (150 kB) are copied in 10 us,
# and a mapping costs 45, for 37 pages that have to be found one by one and be forgotten on all cores.
_READ_BYTES = 1 << 20
# File systems stamp with a clock that lags behind by a tick; entries of this run must not look older than it.
_CLOCK_SLACK_NS = 1_000_000_000


@dataclass(frozen=True)
class Usage:
    """What a store holds.

    Attributes:
        counts: kind -> number of entries.
        sizes_bytes: kind -> bytes on disk.
    """

    counts: dict[str, int]
    sizes_bytes: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """Of all kinds."""
        return sum(self.sizes_bytes.values())


class Store:
    """Arrays by key, on disk; safe for several threads and several processes.

    Attributes:
        folder: where the entries are; it is made when the first one is written.
        limit_bytes: the entries together stay below it (two runs at once may pass it for a while).
    """

    def __init__(self, folder: Path, *, limit_bytes: int, warn: Warn) -> None:
        self.folder, self._root = folder, os.fspath(folder)
        self.limit_bytes = limit_bytes
        self._warn = warn
        self._lock = threading.Lock()
        self._began_ns = time.time_ns() - _CLOCK_SLACK_NS
        self._numbers = itertools.count()
        self._checked: set[int] = set()
        self._used_bytes: int | None = None
        # Promised to threads that have not finished writing, so that no look at the disk finds it for sure.
        self._pending_bytes = 0
        self._unscanned_bytes = 0
        self._writable = True
        self._warned_full = False

    def get(self, kind: str, key: str) -> Array | None:
        """The array stored under a key, read-only; None if there is none that is good.

        Large ones are mapped into memory, small ones are read.

        Args:
            kind: a lower-case word; entries of different kinds never meet.
            key: 64 hexadecimal digits.
        """
        path = self._path(kind, key)
        try:
            descriptor = os.open(path, os.O_RDONLY | _NEVER_WAIT)
        except OSError:
            return None
        # Plain calls: this runs once an image and pass, and file objects cost as much as the reading.
        try:
            stat = os.fstat(descriptor)
            content = _content(descriptor, stat.st_size)
        except (OSError, ValueError):
            return None
        finally:
            os.close(descriptor)
        # A checksum takes as long as all the rest; entries are replaced, never changed, so once is enough.
        seen = hash((key, stat.st_ino, stat.st_size))  # a number, because sets of images are large
        found = parsed(content, bytes.fromhex(key), trusted=seen in self._checked)
        with contextlib.suppress(OSError):
            if found is None:
                os.unlink(path)  # it can only be in the way
            else:
                self._checked.add(seen)
            if found is not None and not self._is_of_this_run(stat.st_mtime_ns):
                os.utime(path)  # used now: others go first when room is needed
        return found

    def has(self, kind: str, key: str) -> bool:
        """Whether there is an entry under a key; it may turn out to be damaged."""
        return os.path.exists(self._path(kind, key))

    def put(self, kind: str, key: str, value: Array, *, limit_fraction: float = 1.0) -> None:
        """Stores an array of at most four axes; a failure is a warning, and ends all further writing.

        Args:
            kind: as for `get`.
            key: as for `get`.
            value: what is stored.
            limit_fraction: stop at this share of the limit, to leave the rest to other kinds.
        """
        if not self._writable:
            return
        size_bytes = HEADER_BYTES + value.nbytes
        if not self._has_room(size_bytes, int(self.limit_bytes * limit_fraction)):
            return
        try:
            self._write(kind, key, value)
        finally:
            with self._lock:
                self._pending_bytes -= size_bytes

    def _write(self, kind: str, key: str, value: Array) -> None:
        path = self._path(kind, key)
        inside = Path(path).parent
        temporary = inside / f"{_TEMPORARY_PREFIX}{os.getpid()}-{next(self._numbers)}"
        try:
            inside.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("xb", buffering=0) as stream, living(temporary):
                lock(stream.fileno())  # for as long as it has this name: it is not left behind
                write_all(stream.fileno(), packed_header(key, value))
                write_all(stream.fileno(), as_bytes(value))
                os.replace(temporary, path)
        except FileNotFoundError:
            pass  # somebody cleared the cache, or took it for left behind before it was locked
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if not isinstance(error, OSError):
                raise
            self._stop(error)

    def check_readable(self) -> None:
        """Looks into every folder of entries; a cache that is not there yet is an empty one.

        Raises:
            OSError: one cannot be read.
        """
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for name in filter(_FOLDER_NAME.fullmatch, names):
            with contextlib.suppress(FileNotFoundError):
                os.listdir(self.folder / name)

    def usage(self) -> Usage:
        """Counts what is there, as far as it can be read."""
        counts: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for entry in self._entries():
            counts[entry.kind] = counts.get(entry.kind, 0) + 1
            sizes[entry.kind] = sizes.get(entry.kind, 0) + entry.size_bytes
        return Usage(counts, sizes)

    def clear(self) -> int:
        """Removes all entries and what killed runs left; returns how many bytes that freed."""
        freed = 0
        for entry in self._entries():
            with contextlib.suppress(OSError):
                entry.path.unlink()
                freed += entry.size_bytes
        for folder in self._folders():
            with contextlib.suppress(OSError):  # not empty: somebody else's files are in it
                folder.rmdir()
        return freed

    def tidy(self) -> None:
        """Removes what killed runs left half-written; no entry is looked at."""
        for folder in self._folders():
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if name.startswith(_TEMPORARY_PREFIX):
                        _remove_if_left(folder / name)

    def _is_of_this_run(self, used_ns: int) -> bool:
        """Whether this run has used an entry; what the future used is from before the clock was set back."""
        return self._began_ns <= used_ns <= time.time_ns() + _CLOCK_SLACK_NS

    def _path(self, kind: str, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key}.{kind}"

    def _stop(self, error: OSError) -> None:
        with self._lock:
            if not self._writable:
                return
            self._writable = False
        self._warn(
            f"the cache {self.folder} cannot be written ({error.strerror or error}); going on without: "
            "free some space, or name another folder with --cache_dir"
        )

    def _has_room(self, size_bytes: int, limit_bytes: int) -> bool:
        """Whether another entry fits, after the least recently used ones of earlier runs have gone."""
        with self._lock:
            if self._used_bytes is None or self._unscanned_bytes > _BYTES_BETWEEN_SCANS:
                self._used_bytes = self._pending_bytes + sum(entry.size_bytes for entry in self._entries())
                self._unscanned_bytes = 0
            if self._used_bytes + size_bytes > limit_bytes and not self._warned_full:
                goal_bytes = int(self.limit_bytes * _KEPT_FRACTION) - size_bytes - self._pending_bytes
                self._used_bytes = self._pending_bytes + self._evicted_to(goal_bytes)
            fits = self._used_bytes + size_bytes <= limit_bytes
            if fits:
                self._used_bytes += size_bytes
                self._pending_bytes += size_bytes
                self._unscanned_bytes += size_bytes
                return True
            first, self._warned_full = not self._warned_full, True
        if first:
            self._warn(
                f"the cache's limit of {self.limit_bytes / 1e9:g} GB is too small for this run's images; "
                "those it does not hold are decoded in every pass: raise --cache_size"
            )
        return False

    def _evicted_to(self, goal_bytes: int) -> int:
        """Removes entries that this run has not used, the longest unused first; returns the bytes left."""
        entries = list(self._entries())
        left = sum(entry.size_bytes for entry in entries)
        unused = (entry for entry in entries if not self._is_of_this_run(entry.used_ns))
        for entry in sorted(unused, key=lambda entry: entry.used_ns):
            if left <= goal_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                try:
                    entry.path.unlink()
                except PermissionError:
                    continue
            left -= entry.size_bytes
        return left

    def _folders(self) -> Iterator[Path]:
        try:
            names = [name for name in os.listdir(self.folder) if _FOLDER_NAME.fullmatch(name)]
        except OSError:
            return
        yield from (self.folder / name for name in names)

    def _entries(self) -> Iterator[_Entry]:
        """Every entry; what killed runs left behind is removed on the way."""
        for folder in self._folders():
            with contextlib.suppress(OSError), os.scandir(folder) as listing:
                for item in listing:
                    match = _ENTRY_NAME.fullmatch(item.name)
                    with contextlib.suppress(FileNotFoundError):
                        if match:
                            stat = item.stat(follow_symlinks=False)
                            yield _Entry(Path(item.path), match["kind"], stat.st_size, stat.st_mtime_ns)
                        elif item.name.startswith(_TEMPORARY_PREFIX):
                            _remove_if_left(Path(item.path))


def _content(descriptor: int, size_bytes: int) -> mmap.mmap | bytes:
    if size_bytes > _READ_BYTES:
        return mmap.mmap(descriptor, size_bytes, access=mmap.ACCESS_READ)
    return os.pread(descriptor, size_bytes, 0) if size_bytes else b""


def _remove_if_left(path: Path) -> None:
    """Removes a half-written file that nobody is writing."""
    with abandoned(path) as ours, contextlib.suppress(OSError):
        if ours:
            path.unlink()


@dataclass(frozen=True)
class _Entry:
    path: Path
    kind: str
    size_bytes: int
    used_ns: int
