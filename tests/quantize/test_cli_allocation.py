"""Memory that was freed stays with the process, unless its environment says how it is to be handled."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import resource, sys
from quantize.cli.allocation import keep_freed_memory
told = keep_freed_memory() if sys.argv[1] == "keep" else False

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(24 << 20) for _ in range(4)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(told, min(faults() for _ in range(3)))
"""

glibc_only = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's own settings"
)


def _run(root: Path, how: str, **variables: str) -> tuple[bool, int]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", _PROGRAM, how]
    done = subprocess.run(
        command, cwd=root, env=kept | variables, capture_output=True, text=True, check=True, timeout=60
    )
    told, count = done.stdout.split()
    return told == "True", int(count)


@glibc_only
def test_freed_memory_is_used_again_without_page_faults(project_root: Path) -> None:
    _, plain = _run(project_root, "plain")
    told, kept = _run(project_root, "keep")
    assert told
    # 96 MiB are 24,576 pages of 4 KiB; where pages are larger, there are fewer faults in both.
    assert kept < plain / 10


@glibc_only
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_who_configures_the_allocator_is_left_alone(project_root: Path, name: str) -> None:
    value = "131072" if name.startswith("MALLOC") else "glibc.malloc.trim_threshold=131072"
    told, _ = _run(project_root, "keep", **{name: value})
    assert not told
