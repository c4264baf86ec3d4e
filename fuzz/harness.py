"""What a target is, and which of its answers are findings."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from calibration.errors import PipelineError

CORPUS = Path(__file__).resolve().parent / "corpus"

# What one input may cost before it is a finding. The slowest seed takes 0.1 s under instrumentation, and the
# interpreter with everything imported 300 MB.
LIMIT_S = 20
LIMIT_MB = 2048

# (bytes, most bytes of the result) -> similar bytes.
Bitwise = Callable[[bytes, int], bytes]
# (bytes, most bytes of the result, seed, mutations of the fuzzer's own) -> similar bytes.
Mutate = Callable[[bytes, int, int, Bitwise], bytes]


@dataclass(frozen=True)
class Target:
    """One reader of hostile bytes.

    Attributes:
        name: of its module, and of its folder in the corpus.
        what: what it reads, for people.
        run: reads the bytes as the program would; whatever it raises except PipelineError is a finding.
        max_bytes: longer inputs are not tried: nothing new happens in them.
        short_runs: how many inputs the tests try; about three seconds of them.
        mutate: for formats in which a flipped bit is mostly the same error; None for the fuzzer's own
            mutations.
    """

    name: str
    what: str
    run: Callable[[bytes], None]
    max_bytes: int
    short_runs: int
    mutate: Mutate | None = None


class Finding(Exception):
    """An error of our own that breaks what is promised of errors."""


def attempt(target: Target, data: bytes) -> None:
    """Runs a target on one input.

    Raises:
        Exception: a finding. Errors of our own are what has to come out, as long as they are one line.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about large images and odd metadata go on to be checked
        try:
            target.run(data)
        except PipelineError as error:
            check(error)


def check(error: PipelineError) -> None:
    """Holds an error of ours to its promise.

    Raises:
        Finding: it is not one line.
    """
    if not str(error).strip() or "\n" in str(error):
        raise Finding(f"the message is not one line: {str(error)!r}") from error


@cache
def scratch() -> Path:
    """A folder that goes when the process ends; the same one for every input, so that it stays small."""
    folder = tempfile.TemporaryDirectory(prefix="quantize-fuzz-")
    _kept.append(folder)
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@contextlib.contextmanager
def file_of(data: bytes, name: str) -> Iterator[Path]:
    """A file with these bytes, gone afterwards."""
    path = scratch() / name
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def each(*readers: Callable[[], object]) -> None:
    """Runs several readers of the same bytes; one that refuses them does not keep them from the others.

    Raises:
        PipelineError: all of them refuse the bytes; it is the last one's.
    """
    refused = []
    for reader in readers:
        try:
            reader()
        except PipelineError as error:
            check(error)
            refused.append(error)
    if len(refused) == len(readers):
        raise refused[-1]


def corpus_files(target: str) -> list[Path]:
    """The seeds and old findings of a target, in the order of their names."""
    return sorted(path for path in (CORPUS / target).iterdir() if path.is_file())
