"""What the models are worth that came out, judged alike: on the images that our command judges on by default.

Those are images that no variant of it learns from or chooses by. INC's example has seen them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.contenders import Job
from quantize.benchmark import interleaved_latency
from quantize.config import load_config
from quantize.config.machine import available_cores
from quantize.data import evaluation_data
from quantize.evaluate import evaluate
from quantize.kernels import integer_coverage
from quantize.model import load_model, read_signature
from quantize.session import make_session
from quantize.written import size_bytes

FP32 = "fp32"
_THROUGHPUT_BATCH = 32
_MS_PER_S = 1e3


@dataclass(frozen=True)
class Quality:
    """Of one model file; speeds are medians of calls in turn with all the other models.

    Attributes:
        images: that accuracy was measured on.
        top1_fraction: of them that are right.
        agreement_fraction: of them with the same answer as fp32.
        kl_nats: mean KL(fp32 ‖ model).
        integer_operators, weighted_operators: convolutions and matrix products in integers, and all of them.
        size_bytes: of the file.
        latency_ms: threads -> one image.
        throughput_images_per_s: threads -> in batches of 32.
    """

    images: int
    top1_fraction: float
    agreement_fraction: float
    kl_nats: float
    integer_operators: int
    weighted_operators: int
    size_bytes: int
    latency_ms: Mapping[int, float]
    throughput_images_per_s: Mapping[int, float]


def judge(job: Job, models: Mapping[str, Path], *, rounds: int) -> dict[str, Quality]:
    """Measures fp32 (under "fp32") and all models.

    Args:
        job: the fp32 model and the images.
        models: name -> file.
        rounds: timed calls of each model, batch size and number of threads.
    """
    files = {FP32: job.model, **models}
    config = load_config(job.config).with_data(job.images, job.image_list)
    loader = evaluation_data(config, read_signature(load_model(job.model), job.model), progress=False).loader
    single = {name: make_session(path, threads=1) for name, path in files.items()}
    found = evaluate(single, loader, reference=FP32, workers=available_cores())
    image = loader.load(0)[0][:1].copy()
    batch = np.repeat(image, _THROUGHPUT_BATCH, axis=0)
    latency, throughput = _speeds(files, image, rounds), _speeds(files, batch, max(1, rounds // 5))
    made = {}
    for name, path in files.items():
        fidelity, coverage = found[name].fidelity, integer_coverage(path)
        made[name] = Quality(
            images=found[name].counts.images,
            top1_fraction=found[name].counts.top1,
            agreement_fraction=fidelity.agreement if fidelity else 1.0,
            kl_nats=fidelity.kl if fidelity else 0.0,
            integer_operators=coverage.integer_weighted,
            weighted_operators=coverage.weighted,
            size_bytes=size_bytes(path),
            latency_ms={threads: times[name] for threads, times in latency.items()},
            throughput_images_per_s={
                threads: _THROUGHPUT_BATCH * _MS_PER_S / times[name] for threads, times in throughput.items()
            },
        )
    return made


def _speeds(
    files: Mapping[str, Path], batch: npt.NDArray[np.float32], rounds: int
) -> dict[int, dict[str, float]]:
    """Threads -> model -> median milliseconds of a call."""
    found = {}
    for threads in sorted({1, available_cores()}):
        sessions = {name: make_session(path, threads=threads) for name, path in files.items()}
        timing = interleaved_latency(sessions, batch, rounds=rounds, warmup=2)
        found[threads] = {name: latency.median_ms for name, latency in timing.latencies.items()}
    return found
