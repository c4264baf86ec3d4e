"""The stopwatch: latency of several models side by side, and throughput of several instances of one.

Times on a shared machine drift by tens of percent within minutes. So models are compared only within one run,
call by call in turn, and what is reported are medians and the median of the ratios of neighbouring calls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from quantize.benchmark_worker import Job, TimedCalls, Worker, timed_calls
from quantize.errors import InputError
from quantize.scratch import temporary_folder
from quantize.session import outputs

_MS_PER_S = 1e3


@dataclass(frozen=True)
class Latency:
    """Times of single calls, in milliseconds."""

    calls: int
    median_ms: float
    p90_ms: float
    p99_ms: float

    @classmethod
    def from_samples_s(cls, samples_s: Sequence[float]) -> Latency:
        """Summarize call times in seconds; percentiles interpolate linearly."""
        median, p90, p99 = np.percentile(np.asarray(samples_s) * _MS_PER_S, [50, 90, 99])
        return cls(len(samples_s), float(median), float(p90), float(p99))


@dataclass(frozen=True)
class Performance:
    """Latency and throughput of one model; what `--mode=performance` prints."""

    batch_size: int
    instances: int
    threads_per_instance: int
    warmup: int
    latency: Latency
    """Of one call with `batch_size` images, over all instances."""
    throughput_images_per_s: float
    """Images of all instances over the time from the first call's start to the last call's end."""


@dataclass(frozen=True)
class InterleavedLatency:
    """Latency of several models timed in turn in one run."""

    rounds: int
    latencies: Mapping[str, Latency]
    speed_ups: Mapping[str, float]
    """Per model, the median over rounds of (first model's time / this model's time); 1 for the first."""


def interleaved_latency(
    sessions: Mapping[str, ort.InferenceSession],
    batch: npt.NDArray[np.float32],
    *,
    rounds: int = 50,
    warmup: int = 5,
) -> InterleavedLatency:
    """Time one call of each model in every round, in turn.

    The order is A B C, then C B A, so that none always runs after the same one.

    Args:
        sessions: models by name; the first is the one that the others are compared with.
        batch: [N, ...] float32.
        rounds: timed calls per model, at least 1.
        warmup: calls per model before the clock starts.

    Raises:
        InputError: no round or no model was asked for, or the batch does not fit a model.
        EngineError: a model failed.
    """
    if rounds < 1 or not sessions:
        raise InputError(f"latency: {rounds} rounds of {len(sessions)} models; give at least one of each")
    for name, session in sessions.items():
        for _ in range(warmup):
            outputs(session, batch, model=name)
    samples_s: dict[str, list[float]] = {name: [] for name in sessions}
    forth = list(sessions)
    for number in range(rounds):
        for name in forth if number % 2 == 0 else reversed(forth):
            start = time.perf_counter()
            outputs(sessions[name], batch, model=name)
            samples_s[name].append(time.perf_counter() - start)
    first = np.asarray(samples_s[forth[0]])
    return InterleavedLatency(
        rounds=rounds,
        latencies={name: Latency.from_samples_s(times) for name, times in samples_s.items()},
        speed_ups={name: float(np.median(first / np.asarray(times))) for name, times in samples_s.items()},
    )


def benchmark(
    model_path: str | Path,
    batch: npt.NDArray[np.float32],
    *,
    threads: int = 1,
    instances: int = 1,
    warmup: int = 10,
    iterations: int = 100,
) -> Performance:
    """Measure latency and throughput with one or several instances at once.

    Several instances are processes of their own, so that they share no interpreter lock and no thread pool.
    They start together when all are warm; each is bound to its own cores where the system can do that and has
    enough.

    Args:
        model_path: an `.onnx` file.
        batch: [N, ...] float32, the images of every call.
        threads: per instance.
        instances: how many run at once.
        warmup: calls per instance before the clock starts.
        iterations: timed calls per instance.

    Raises:
        InputError: a count is less than 1 (warm-up: 0), the file is missing, or the batch does not fit the
            model.
        EngineError: the model or an instance failed.
    """
    for name, value, least in (
        ("threads", threads, 1),
        ("instances", instances, 1),
        ("iterations", iterations, 1),
        ("warmup", warmup, 0),
    ):
        if value < least:
            raise InputError(f"benchmark: {name} {value} is too few; give {least} or more")
    job = Job(str(model_path), threads, warmup, iterations)
    if instances == 1:
        runs = [timed_calls(job, batch, wait=lambda: None)]
    else:
        runs = _run_processes(job, batch, instances)
    wall_s = max(run.end_s for run in runs) - min(run.start_s for run in runs)
    return Performance(
        batch_size=len(batch),
        instances=instances,
        threads_per_instance=threads,
        warmup=warmup,
        latency=Latency.from_samples_s([sample for run in runs for sample in run.samples_s]),
        throughput_images_per_s=len(batch) * iterations * instances / wall_s,
    )


def _run_processes(job: Job, batch: npt.NDArray[np.float32], instances: int) -> list[TimedCalls]:
    if not Path(job.model_path).is_file():
        raise InputError(f"{job.model_path}: no such model file; check the path")
    with temporary_folder("benchmark") as folder, ExitStack() as stack:
        batch_path = folder / "batch.npy"
        np.save(batch_path, batch)
        workers = [
            stack.enter_context(Worker(job, batch_path, index, instances)) for index in range(instances)
        ]
        for worker in workers:
            worker.wait_until_warm()
        for worker in workers:
            worker.start()
        return [worker.result() for worker in workers]
