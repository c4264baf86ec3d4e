"""The stopwatch: what it counts and refuses; never how long anything took."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize import benchmark_worker
from quantize.benchmark import Latency, benchmark, interleaved_latency
from quantize.errors import EngineError, InputError
from quantize.session import make_session


def test_percentiles_of_known_times() -> None:
    latency = Latency.from_samples_s([k / 1000 for k in range(101)])
    assert (latency.calls, latency.median_ms, latency.p90_ms, latency.p99_ms) == pytest.approx(
        (101, 50, 90, 99)
    )


def test_models_are_timed_in_turn_and_order_is_reversed(
    model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("quantize.benchmark.outputs", lambda _session, _batch, *, model: calls.append(model))
    made = {
        "fp32": make_session(model_files.fp32, threads=1),
        "int8": make_session(model_files.qdq, threads=1),
    }
    interleaved_latency(made, model_files.images[:1], rounds=3, warmup=1)
    assert calls == ["fp32", "int8", "fp32", "int8", "int8", "fp32", "fp32", "int8"]


def test_interleaved_latency_compares_with_the_first(model_files: Any) -> None:
    made = {
        "fp32": make_session(model_files.fp32, threads=1),
        "int8": make_session(model_files.qdq, threads=1),
    }
    found = interleaved_latency(made, model_files.images[:1], rounds=4, warmup=0)
    assert found.rounds == 4
    assert found.speed_ups["fp32"] == 1.0
    assert found.speed_ups["int8"] > 0
    assert {name: latency.calls for name, latency in found.latencies.items()} == {"fp32": 4, "int8": 4}


def test_no_rounds_or_models_are_refused(model_files: Any) -> None:
    with pytest.raises(InputError, match="0 rounds"):
        interleaved_latency(
            {"fp32": make_session(model_files.fp32, threads=1)}, model_files.images[:1], rounds=0
        )
    with pytest.raises(InputError, match="of 0 models"):
        interleaved_latency({}, model_files.images[:1])


@pytest.mark.parametrize("instances", [1, 2])
def test_performance_counts_every_call_of_every_instance(model_files: Any, instances: int) -> None:
    found = benchmark(model_files.qdq, model_files.images[:3], instances=instances, warmup=1, iterations=4)
    assert found.latency.calls == 4 * instances
    assert (found.batch_size, found.instances, found.threads_per_instance) == (3, instances, 1)
    assert found.throughput_images_per_s > 0
    assert found.latency.median_ms <= found.latency.p90_ms <= found.latency.p99_ms


@pytest.mark.parametrize(
    ("field", "value"), [("threads", 0), ("instances", 0), ("iterations", 0), ("warmup", -1)]
)
def test_counts_too_small_are_refused(model_files: Any, field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"benchmark: {field} {value}"):
        benchmark(model_files.qdq, model_files.images[:1], **{field: value})


@pytest.mark.parametrize("instances", [1, 2])
def test_a_missing_file_is_the_users_error(tmp_path: Path, model_files: Any, instances: int) -> None:
    with pytest.raises(InputError, match=r"absent\.onnx: (does not exist|no such model file)"):
        benchmark(tmp_path / "absent.onnx", model_files.images[:1], instances=instances)


def test_a_failing_instance_says_why(tmp_path: Path, model_files: Any) -> None:
    path = tmp_path / "rubbish.onnx"
    path.write_bytes(b"rubbish" * 50)
    with pytest.raises(EngineError, match=r"instance 1 of 2 failed: .*cannot be read as ONNX"):
        benchmark(path, model_files.images[:1], instances=2)


def run_child(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("go\n"))
    monkeypatch.setattr(benchmark_worker, "bind_to_cores", lambda *_numbers: ())
    return benchmark_worker.main([str(argument) for argument in arguments])


def test_the_childs_program(
    model_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_path = tmp_path / "batch.npy"
    np.save(batch_path, model_files.images[:2])
    assert run_child(monkeypatch, model_files.qdq, batch_path, 1, 0, 3, 0, 2) == 0
    ready, answer = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert len(json.loads(answer)["samples_s"]) == 3
    assert run_child(monkeypatch, tmp_path / "absent.onnx", batch_path, 1, 0, 3, 0, 2) == 2
    assert "absent.onnx: does not exist" in capsys.readouterr().err
    assert run_child(monkeypatch, "too", "few") == 2


def test_instances_get_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {4, 5, 6, 7}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _process, cores: bound.append(cores), raising=False)
    assert benchmark_worker.bind_to_cores(2, 1, 2) == (6, 7)
    assert benchmark_worker.bind_to_cores(2, 0, 3) == ()  # six cores are wanted, four are there
    assert bound == [(6, 7)]
    monkeypatch.delattr(os, "sched_setaffinity")
    assert benchmark_worker.bind_to_cores(1, 0, 1) == ()


def test_a_child_that_dies_while_it_runs_is_an_error(model_files: Any, tmp_path: Path) -> None:
    batch_path = tmp_path / "batch.npy"
    np.save(batch_path, model_files.images[:1])
    job = benchmark_worker.Job(str(model_files.qdq), 1, 0, 10**9)
    with benchmark_worker.Worker(job, batch_path, 0, 1) as worker:
        worker.wait_until_warm()
        worker.start()
        worker._process.kill()
        with pytest.raises(EngineError, match="it was killed by signal 9"):
            worker.result()
    with benchmark_worker.Worker(job, batch_path, 0, 1) as worker:
        worker.wait_until_warm()
    assert worker._process.returncode != 0  # leaving ends a child that still waits
