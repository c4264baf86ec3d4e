"""The commands that measure one model as it is: accuracy on the evaluation images, or speed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from quantize.benchmark import benchmark
from quantize.cache import open_store
from quantize.config import Config
from quantize.data import evaluation_data, performance_batch
from quantize.evaluate import evaluate
from quantize.model import Signature, load_model, read_signature
from quantize.printable import json_ready, printable
from quantize.saturation import (
    SATURATION_IMAGES,
    Saturation,
    exact_session,
    find_saturation,
    pair_bound,
)
from quantize.session import make_session
from quantize.stages import Stages, Verbosity

# Enough calls for a 99th percentile that is not the maximum, in seconds rather than minutes.
_DEFAULT_ITERATION_COUNT = 200


def run_evaluate(
    config: Config, *, input_model: Path, verbosity: Verbosity = "normal", as_json: bool = False
) -> int:
    """Prints top-1 and top-5 of a model, fp32 or int8, on the evaluation images; returns the exit code."""
    stages = Stages(verbosity)
    _warn(stages, config.warnings)
    store = open_store(config, lambda problem: stages.say(f"warning: {problem}"))
    data = evaluation_data(config, _signature(input_model), progress=stages.shown, store=store)
    _warn(stages, data.warnings)
    session = make_session(input_model, threads=1)
    name = input_model.name
    bound = pair_bound(input_model)
    found = evaluate(
        {name: session},
        data.loader,
        workers=config.thread_count,
        sources={name: input_model},
        witnesses={name: exact_session(input_model)} if bound.checked else {},
        witness_images=SATURATION_IMAGES,
    )
    counts, witness = found[name].counts, found[name].witness
    saturation = None if witness is None else Saturation(witness, bound)
    if as_json:
        _print_json(
            {
                "model": str(input_model),
                "images": counts.images,
                "top1_fraction": counts.top1,
                "top1_correct": counts.top1_correct,
                "top5_fraction": counts.top5,
                "top5_correct": counts.top5_correct,
                "top1_ties": counts.top1_ties,
                "skipped": data.soundness.to_json(),
                "saturation": None if saturation is None else saturation.to_json(),
            }
        )
        return 0
    print(f"Accuracy: {counts.top1:.4f} top-1, {counts.top5:.4f} top-5, {counts.images} images")
    if counts.top1_ties:
        print(f"{counts.top1_ties} images have more than one best class; the lowest index counts")
    _tell(saturation, name)
    return 0


def run_benchmark(
    config: Config, *, input_model: Path, verbosity: Verbosity = "normal", as_json: bool = False
) -> int:
    """Prints latency and throughput of a model with the configured warm-up, threads and instances."""
    stages = Stages(verbosity)
    _warn(stages, config.warnings)
    performance = config.evaluation.performance
    batch, warnings = performance_batch(config, _signature(input_model))
    _warn(stages, warnings)
    instances, threads = performance.configs.num_of_instance, config.threads_per_instance
    iterations = performance.iteration if performance.iteration > 0 else _DEFAULT_ITERATION_COUNT
    stages.say(f"{instances} x {threads} threads, batch {len(batch)}, {iterations} calls each")
    found = benchmark(
        input_model,
        np.ascontiguousarray(batch),
        threads=threads,
        instances=instances,
        warmup=performance.warmup,
        iterations=iterations,
    )
    saturation = find_saturation(input_model, batch, threads=threads)
    if as_json:
        latency = {name: getattr(found.latency, name) for name in ("median_ms", "p90_ms", "p99_ms")}
        _print_json(
            {
                "model": str(input_model),
                "latency": {"calls": found.latency.calls, **latency},
                "throughput_images_per_s": found.throughput_images_per_s,
                "batch_size": found.batch_size,
                "threads": threads,
                "instances": instances,
                "saturation": None if saturation is None else saturation.to_json(),
            }
        )
        return 0
    print(
        f"Latency: {found.latency.median_ms:.3f} ms median, {found.latency.p90_ms:.3f} ms p90, "
        f"{found.latency.p99_ms:.3f} ms p99, batch size {found.batch_size}"
    )
    print(f"Throughput: {found.throughput_images_per_s:.1f} images/s")
    _tell(saturation, input_model.name)
    return 0


def _tell(saturation: Saturation | None, name: str) -> None:
    """What was looked for in an int8 model, found or not."""
    if saturation is None:
        return
    for line in saturation.lines(name) or [f"{name}: no integer product saturates, on any CPU"]:
        print(printable(line))


def _signature(path: Path) -> Signature:
    # Where the shape leaves the layout open, only the transforms know it; running a model takes no layout.
    return read_signature(load_model(path), path)


def _print_json(document: Mapping[str, object]) -> None:
    print(json.dumps(json_ready(document), indent=2, allow_nan=False))


def _warn(stages: Stages, warnings: Iterable[str]) -> None:
    for warning in warnings:
        stages.say(f"warning: {warning}")
