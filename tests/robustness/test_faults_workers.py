"""Threads and processes that fail or die: what goes wrong in them surfaces, and nothing waits for them."""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize import benchmark_worker
from quantize.benchmark import benchmark
from quantize.cli import main
from quantize.errors import EngineError
from tests.robustness.programs import Program, contents

_MEMORY = "out of memory; lower --threads or --batch_size, or free some memory"


@pytest.mark.robustness(
    "Faults",
    "a thread of a pool runs out of memory: decoding, baseline, ranges, rounding, walking, judging, looking "
    "for causes",
    "the run ends with exit code 3 and one line; no thread hangs, what was there is intact",
)
@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("calibration.prepared", "decoded"),
        ("quantize.comparison", "label_ranks"),
        ("quantize.ranges.collect", "run_session"),
        ("quantize.refine.weights", "gptq"),
        ("quantize.refine.walk", "run"),
        ("quantize.refine.judge", "outputs"),
        ("quantize.diagnose.signal", "_Powers"),
    ],
)
def test_out_of_memory_in_a_thread(
    module: str,
    function: str,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def exhausted(*_: Any, **__: Any) -> Any:
        raise MemoryError

    program.out.mkdir()
    (program.out / "report.json").write_text("earlier")
    monkeypatch.setattr(importlib.import_module(module), function, exhausted)
    assert main(["tune", *program.flags("--refine=fast", "--threads=2")]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {_MEMORY}"
    assert contents(program.out) == {"report.json": b"earlier"}


@pytest.mark.robustness(
    "Faults",
    "the process may have little more memory than it takes to start (RLIMIT_AS)",
    "one line and exit code 3, or the run succeeds; what was there is intact",
)
@pytest.mark.parametrize("spare_mb", [16, 64, 128, 256])
def test_little_memory(spare_mb: int, program: Program) -> None:
    prelude = f"""
import resource
import quantize.pipeline
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {spare_mb << 20},) * 2)
"""
    done = program.run("--refine=none", "--no_html", "--threads=2", prelude=prelude)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 3), done.stderr
    if done.returncode == 3:
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert not program.out.exists()
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "a process of the benchmark is killed before it is warm, before it starts, or while it runs",
    "exit code 3 and one line that names the instance and the signal; the others are ended",
)
@pytest.mark.parametrize("moment", ["wait_until_warm", "start", "result"])
def test_a_killed_benchmark_process(moment: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[benchmark_worker.Worker] = []
    real = getattr(benchmark_worker.Worker, moment)

    def killed_first(worker: benchmark_worker.Worker) -> Any:
        workers.append(worker)
        if len(workers) == 1:
            worker._process.send_signal(signal.SIGKILL)
            worker._process.wait()
        return real(worker)

    monkeypatch.setattr(benchmark_worker.Worker, moment, killed_first)
    batch = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(EngineError, match=r"benchmark instance 1 of 2 failed: it was killed by signal 9"):
        benchmark(tiny / "net.onnx", batch, instances=2, iterations=10**9, warmup=0)
    assert all(worker._process.poll() is not None for worker in workers)


@pytest.mark.robustness(
    "Faults",
    "a process of the benchmark loses its parent, before it starts or while it runs",
    "it ends by itself",
)
@pytest.mark.parametrize("running", [False, True])
def test_an_orphaned_benchmark_process(*, running: bool, tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", np.zeros((1, 3, 8, 8), np.float32))
    job = benchmark_worker.Job(str(tiny / "net.onnx"), 1, 0, 10**9)
    with benchmark_worker.Worker(job, tmp_path / "batch.npy", 0, 1) as worker:
        worker.wait_until_warm()
        if running:
            worker.start()
        assert worker._process.stdin is not None
        os.close(os.dup(worker._process.stdin.fileno()))  # only the last end counts
        worker._process.stdin.close()  # as the system does when the parent is killed
        assert worker._process.wait(60) == 3
