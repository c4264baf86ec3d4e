"""Starts a program and writes what it cost: `python -S launch.py RESULT COMMAND...`.

A process of its own, and a small one: Linux counts what a process was before it became another program as
part of the latter's peak memory, so that whoever starts a program directly is measured with it.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(result: str, *command: str) -> None:
    """Runs the command to its end; RESULT gets the exit code and the costs as JSON."""
    began_s = time.perf_counter()
    pid = os.spawnvp(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(pid, 0)
    found = {
        "code": os.waitstatus_to_exitcode(status),
        "wall_s": time.perf_counter() - began_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        # Counts KiB on Linux, bytes on macOS.
        "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    with open(result, "w", encoding="utf-8") as stream:
        json.dump(found, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
