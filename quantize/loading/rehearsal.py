"""A first load in a process of its own, where the installed onnx or ONNX Runtime can be crashed by a model.

Their shape inference ended the process on damaged models in older versions (seen with onnx 1.19.0 and ONNX
Runtime 1.23.0: a Conv whose weights have one axis), which no exception handler survives. The versions below
held against every damaged model that was tried on them; older ones cost half a second for each model.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

HARDENED_VERSIONS = {"onnx": (1, 23), "onnxruntime": (1, 32)}

# Loading 2 GiB takes a minute; a machine may be slow, and busy.
_PATIENCE_S = 900
_COMMAND = (sys.executable, "-m", "quantize.rehearsal_worker")

_survived: set[str] = set()


class RehearsalError(ValueError):
    """The process that loaded the model first did not survive it."""


@cache
def is_needed() -> bool:
    """Whether an installed version is older than those that held."""
    return any(_version(package) < hardened for package, hardened in HARDENED_VERSIONS.items())


def rehearse(content: bytes) -> None:
    """Lets a child process load a model; once for the same model.

    Args:
        content: the serialized model, without external data.

    Raises:
        RehearsalError: the child was killed by a signal, or did not end in a quarter of an hour.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest in _survived:
        return
    root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            _COMMAND,
            input=content,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search},
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RehearsalError(f"is not loaded within {_PATIENCE_S} s; export it again") from error
    if done.returncode < 0:
        raise RehearsalError(
            f"crashes the installed onnx or ONNX Runtime (signal {-done.returncode}); export it again, or "
            "install newer ones"
        )
    _survived.add(digest)


def _version(package: str) -> tuple[int, ...]:
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a build under another name, of unknown age
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", found)[:2])
