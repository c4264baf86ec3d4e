"""Downloads one file: resumes, checks its hash, and lets it appear under its name only if that is right.

What has arrived so far is kept beside the target, as `NAME.part`, together with what the server said about
the version it belongs to (`NAME.part.json`), so that an interrupted transfer goes on where it ended.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.errors import LIMITS
from quantize.acquire.addresses import SafeRedirects, check_address, lfs_pointer
from quantize.errors import InputError, PipelineError
from quantize.files import atomic_write_text, make_folder, sha256_of_file
from quantize.version import VERSION

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30.0

# A connection that breaks is tried again, after 1, 2, 4, … seconds.
_ATTEMPTS = 5

_CURE = "check the address and the network (https_proxy), or give the path of a file that you have"

# A model file is one protobuf message, which cannot be larger.
LIMIT_BYTES = (1 << 31) - 1

# 206 is the answer to a request for a part, 416 to one for a part beyond the end (RFC 9110), 429 to too many.
_PARTIAL, _BEYOND, _BUSY = 206, 416, 429

Progress = Callable[[int, int | None], None]
Sleep = Callable[[float], None]


@dataclass(frozen=True)
class Wanted:
    """What to download.

    Attributes:
        urls: addresses of the same file, tried in order.
        target: the final name.
        sha256: of the content, lower case; None if nobody knows it.
        size_bytes: of the content; None if nobody knows it.
    """

    urls: Sequence[str]
    target: Path
    sha256: str | None = None
    size_bytes: int | None = None


class _Broken(Exception):
    """This address does not give the file; another attempt or address may."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


def download(
    wanted: Wanted,
    *,
    progress: Progress = lambda done_bytes, total_bytes: None,
    sleep: Sleep | None = None,
    limit_bytes: int = LIMIT_BYTES,
) -> bool:
    """Makes the file be there.

    Args:
        wanted: what.
        progress: told how many bytes of how many have arrived.
        sleep: waits between attempts; `time.sleep` when None.
        limit_bytes: what is larger is refused.

    Returns:
        Whether anything was downloaded: not if the right file was there already.

    Raises:
        InputError: an address cannot be used, another file has the name, or the content is not the expected.
        PipelineError: no address gave the file; what has arrived is kept for the next time.
    """
    for url in wanted.urls:
        check_address(url, trusted=wanted.sha256 is not None)
    if wanted.target.exists():
        _check_present(wanted)
        return False
    make_folder(wanted.target.parent)
    transfer = _Transfer(wanted, progress, limit_bytes)
    reasons: dict[str, str] = {}
    for url in wanted.urls:
        for attempt in range(_ATTEMPTS):
            try:
                transfer.fetch(url)
            except _Broken as broken:
                reasons[url] = f"{url}: {broken}"
                if broken.final:
                    break
                if attempt < _ATTEMPTS - 1:
                    (sleep or time.sleep)(2.0**attempt)
            else:
                transfer.finish(url)
                return True
    kept = f"; {transfer.size} bytes are kept for the next time" if transfer.size else ""
    raise PipelineError(f"download failed: {'; '.join(reasons.values())}{kept}; {_CURE}")


@dataclass
class _Transfer:
    """The state on disk of one download."""

    wanted: Wanted
    progress: Progress
    limit_bytes: int
    part: Path = field(init=False)
    notes: Path = field(init=False)

    def __post_init__(self) -> None:
        target = self.wanted.target
        self.part = target.with_name(f"{target.name}.part")
        self.notes = target.with_name(f"{target.name}.part.json")
        self.opener = urllib.request.build_opener(SafeRedirects(trusted=self.wanted.sha256 is not None))

    @property
    def size(self) -> int:
        """How much has arrived."""
        return self.part.stat().st_size if self.part.exists() else 0

    def fetch(self, url: str) -> None:
        """Gets the rest of the file.

        Raises:
            _Broken: it did not arrive, or not all of it.
            InputError: it is too large.
        """
        start, validator = self._resumable(url)
        headers = {"User-Agent": f"quantize/{VERSION}", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        try:
            request = urllib.request.Request(url, headers=headers)
            with self.opener.open(request, timeout=_TIMEOUT_S) as answer:
                self._receive(url, answer, start)
        except urllib.error.HTTPError as error:
            if error.code == _BEYOND:
                self.discard()
            # Asking again helps where the server is busy or failed, not where it has no such file.
            final = 400 <= error.code < 500 and error.code not in (_BEYOND, _BUSY)
            raise _Broken(f"the server answers {error.code} {error.reason}", final=final) from error
        except urllib.error.URLError as error:
            # A name that does not exist now will not in a second either.
            raise _Broken(str(error.reason), final=isinstance(error.reason, socket.gaierror)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _broken_connection(error) from error

    def _resumable(self, url: str) -> tuple[int, str]:
        """From where to go on, and the version of the file that the part belongs to; 0 from the beginning."""
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
            if notes["url"] == url and notes["validator"] and self.size:
                return self.size, str(notes["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # notes that cannot be read are none
        return 0, ""

    def _receive(self, url: str, answer: Any, start: int) -> None:
        if answer.status != _PARTIAL or not _begins_at(answer.headers.get("Content-Range", ""), start):
            start = 0  # the server sends all of it, because it cannot resume or the file has changed
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        self._check_size(total)
        # A weak validator does not promise equal bytes, so nothing can be resumed with it (RFC 9110, 13.1.5).
        tag = answer.headers.get("ETag", "")
        strong = tag if not tag.startswith("W/") else ""
        validator = strong or answer.headers.get("Last-Modified", "")
        atomic_write_text(self.notes, json.dumps({"url": url, "validator": validator}))
        with self._writing(), self.part.open("ab" if start else "wb") as stream:
            done = start
            while chunk := _next_chunk(answer):
                done += len(chunk)
                self._check_size(done)
                stream.write(chunk)
                self.progress(done, total)
            stream.flush()
            os.fsync(stream.fileno())
        if total is not None and done < total:
            raise _Broken(f"the connection ended after {done} of {total} bytes")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What the disk refuses is no fault of the connection: no other attempt or address would help."""
        try:
            yield
        except BrokenPipeError:  # nobody reads of the progress
            raise
        except OSError as error:
            cure = LIMITS.get(error.errno or 0, "name another --output")
            raise PipelineError(f"cannot write {self.part}: {error.strerror or error}; {cure}") from error

    def _check_size(self, size_bytes: int | None) -> None:
        expected = self.wanted.size_bytes
        limit = self.limit_bytes if expected is None else expected
        if size_bytes is not None and size_bytes > limit:
            self.discard()
            what = "expected" if expected is not None else "allowed"
            raise InputError(
                f"{self.wanted.target.name}: is larger than the {limit} bytes {what}; is the address right?"
            )

    def finish(self, url: str) -> None:
        """Checks what has arrived, and gives it its name.

        Raises:
            InputError: it is not what was expected.
        """
        found = sha256_of_file(self.part)
        expected = self.wanted.sha256
        if expected is not None and found != expected:
            pointer = lfs_pointer(self.part)
            self.discard()
            if pointer is not None:
                raise InputError(f"{url}: gives a Git LFS pointer instead of the file; try again later")
            raise InputError(
                f"{url}: has SHA-256 {found}, expected {expected}; the file there is another one"
            )
        with self._writing():
            os.replace(self.part, self.wanted.target)
            self.notes.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forgets what has arrived."""
        with contextlib.suppress(FileNotFoundError):
            self.part.unlink()
        self.notes.unlink(missing_ok=True)


def _next_chunk(answer: Any) -> bytes:
    try:
        chunk: bytes = answer.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _broken_connection(error) from error
    return chunk


def _broken_connection(error: Exception) -> _Broken:
    return _Broken(f"the connection broke ({error or type(error).__name__})")


def _check_present(wanted: Wanted) -> None:
    if not wanted.target.is_file():
        raise InputError(f"{wanted.target}: is in the way; name another --output")
    if wanted.sha256 is None:
        raise InputError(
            f"{wanted.target}: is there already; give its --sha256 to check it, or another --output"
        )
    found = sha256_of_file(wanted.target)
    if found != wanted.sha256:
        raise InputError(
            f"{wanted.target}: is there already, with SHA-256 {found}, not {wanted.sha256}; move it away"
        )


def _begins_at(content_range: str, start: int) -> bool:
    """Whether `bytes 100-199/200` begins at 100."""
    unit, _, interval = content_range.partition(" ")
    return unit == "bytes" and interval.partition("-")[0].strip() == str(start)
