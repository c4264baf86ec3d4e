"""One benchmark instance in a process of its own, and the handle by which `quantize.benchmark` holds it.

The child writes `ready` when it is warm, waits for a line on its standard input, runs, and writes one line of
JSON. A plain child process rather than `multiprocessing`, which would run the caller's main module again.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn

import numpy as np
import numpy.typing as npt

from quantize.errors import EngineError, PipelineError
from quantize.session import make_session, outputs

_READY = "ready"
_EXIT_WAIT_S = 10
_ARGUMENTS = 7
# Nobody will read what an instance exits with whose parent is gone.
_ORPHANED = 3


@dataclass(frozen=True)
class TimedCalls:
    """Times of an instance's calls in seconds; `start_s` and `end_s` on a clock that all processes share.

    The system's monotonic one, which counts from its start: nobody can set it back.
    """

    start_s: float
    end_s: float
    samples_s: tuple[float, ...]


@dataclass(frozen=True)
class Job:
    """What each instance does; the counts are per instance."""

    model_path: str
    threads: int
    warmup: int
    iterations: int


def timed_calls(job: Job, batch: npt.NDArray[np.float32], *, wait: Callable[[], None]) -> TimedCalls:
    """Load, warm up, `wait()`, then time each call; raises as `make_session` and `outputs` do."""
    # Alone on its cores, waiting threads may spin; a single thread has nobody to wait for.
    session = make_session(job.model_path, threads=job.threads, spinning=job.threads > 1)
    name = job.model_path
    outputs(
        session, batch, model=name
    )  # the first call also allocates; its shape check belongs before the wait
    for _ in range(job.warmup):
        outputs(session, batch, model=name)
    wait()
    samples_s = []
    start_s = time.monotonic()
    for _ in range(job.iterations):
        begin = time.perf_counter()
        outputs(session, batch, model=name)
        samples_s.append(time.perf_counter() - begin)
    return TimedCalls(start_s, time.monotonic(), tuple(samples_s))


class Worker:
    """A context manager around the child process; leaving it ends the process if it still runs."""

    def __init__(self, job: Job, batch_path: Path, index: int, instances: int) -> None:
        """Start the process; instance `index` of `instances` takes the cores from `index * threads` on."""
        root = str(Path(__file__).resolve().parents[1])
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        numbers = [str(value) for value in (job.threads, job.warmup, job.iterations, index, instances)]
        self._label = f"{job.model_path}: benchmark instance {index + 1} of {instances}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "quantize.benchmark_worker", job.model_path, str(batch_path), *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",  # only messages can hold other bytes, through paths
            env={**os.environ, "PYTHONPATH": search},
        )

    def __enter__(self) -> Worker:
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process if it still runs, and close its pipes."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(_EXIT_WAIT_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):  # what it was to be told comes too late
                    pipe.close()

    def wait_until_warm(self) -> None:
        """Block until the child is ready; raises EngineError with its last words if it is not."""
        if self._read() != _READY:
            self._fail()

    def start(self) -> None:
        """Let the child begin."""
        stream = self._pipe(self._process.stdin)
        try:
            stream.write("go\n")
            stream.flush()
        except BrokenPipeError:
            self._fail()

    def result(self) -> TimedCalls:
        """Block until the child is done; raises EngineError if it failed."""
        line = self._read()
        if not line:
            self._fail()
        try:
            found = json.loads(line)
            times = TimedCalls(found["start_s"], found["end_s"], tuple(found["samples_s"]))
        except (ValueError, KeyError, TypeError):  # it died while it wrote
            self._fail()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it has said everything; leaving ends it
            self._process.wait(_EXIT_WAIT_S)
        return times

    def _read(self) -> str:
        return self._pipe(self._process.stdout).readline().strip()

    def _fail(self) -> NoReturn:
        words = self._pipe(self._process.stderr).read().strip().splitlines()
        code = self._process.wait(_EXIT_WAIT_S)
        how = f"it was killed by signal {-code}" if code < 0 else f"it ended without a word, with code {code}"
        raise EngineError(f"{self._label} failed: {words[-1] if words else how}")

    def _pipe(self, stream: IO[str] | None) -> IO[str]:
        if stream is None:
            raise EngineError(f"{self._label} has no pipe")
        return stream


def bind_to_cores(threads: int, index: int, instances: int) -> tuple[int, ...]:
    """Bind this process to its own cores; returns them, or () where they are too few or it cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        return ()
    available = sorted(os.sched_getaffinity(0))
    if threads * instances > len(available):
        return ()
    own = tuple(available[index * threads : (index + 1) * threads])
    os.sched_setaffinity(0, own)
    return own


def _end_with_parent() -> None:
    """Ends the process when the other end of its standard input goes, as it does however the parent ends."""

    def watch() -> None:
        while sys.stdin.readline():
            pass
        os._exit(_ORPHANED)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str], *, on_start: Callable[[], None] = lambda: None) -> int:
    """The child's program.

    Args:
        arguments: those that `Worker` gives.
        on_start: called before the clock starts, to see to it that the process does not outlive its parent.
    """
    if len(arguments) != _ARGUMENTS:
        print(f"benchmark_worker: expected {_ARGUMENTS} arguments, got {len(arguments)}", file=sys.stderr)
        return 2
    model_path, batch_path = arguments[:2]
    threads, warmup, iterations, index, instances = (int(text) for text in arguments[2:])
    bind_to_cores(threads, index, instances)

    def wait() -> None:
        print(_READY, flush=True)
        sys.stdin.readline()
        on_start()

    try:
        job = Job(model_path, threads, warmup, iterations)
        calls = timed_calls(job, np.load(batch_path), wait=wait)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(
        json.dumps({"start_s": calls.start_s, "end_s": calls.end_s, "samples_s": calls.samples_s}), flush=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], on_start=_end_with_parent))
