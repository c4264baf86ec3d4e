"""How much of the runtime's speed the evaluation keeps: from memory, from the cache, and from image files.

python -m benchmarks.evaluation --model=M.onnx --images=DIR --labels=val.txt [--also=INT8.onnx] [--rounds=5]

For each model, in turn and several times: ONNX Runtime alone on batches that are already in memory; our
evaluation on cached pixels; our evaluation on image files; and making the batches from files without any
model. All use all cores. Ratios are taken within a round, and their median is shown. Decoding and inference
share the cores, so that files allow at best `1 / (1/decoding + 1/inference)` images per second.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnxruntime as ort

from benchmarks.ending import end_with
from benchmarks.table import table
from calibration.dataloader import DataLoader
from calibration.store import Store
from quantize.batches import Images, items_of
from quantize.cli.allocation import keep_freed_memory
from quantize.config import load_config
from quantize.config.machine import available_cores
from quantize.data import load_data
from quantize.evaluate import evaluate
from quantize.model import load_model, read_signature
from quantize.parallel import in_order
from quantize.session import make_session, outputs

Rates = dict[str, list[float]]
_STORE_LIMIT_BYTES = 4_000_000_000


def measure(
    session: ort.InferenceSession, cached: DataLoader, files: DataLoader, *, workers: int, rounds: int
) -> Rates:
    """Images per second of each way, round by round."""
    held = [images for images, _ in cached]
    count = len(cached.images)

    def from_memory() -> None:
        def run(images: Images) -> None:
            outputs(session, images)

        for _ in in_order(run, held, workers=workers):
            pass

    def decoding() -> None:
        for _ in in_order(lambda item: item.images().shape, items_of(files), workers=workers):
            pass

    ways: Mapping[str, Callable[[], object]] = {
        "memory": from_memory,
        "cache": lambda: evaluate({"model": session}, cached, workers=workers),
        "files": lambda: evaluate({"model": session}, files, workers=workers),
        "decoding": decoding,
    }
    rates: Rates = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
            began_s = time.perf_counter()
            way()
            if number:  # the first round fills caches
                rates[name].append(count / (time.perf_counter() - began_s))
    return rates


def shown(found: Mapping[str, Rates]) -> str:
    """One row for each model."""
    rows = []
    for name, rates in found.items():
        from_cache = [cache / memory for cache, memory in zip(rates["cache"], rates["memory"], strict=True)]
        allowed = [1 / (1 / d + 1 / m) for d, m in zip(rates["decoding"], rates["memory"], strict=True)]
        from_files = [files / most for files, most in zip(rates["files"], allowed, strict=True)]
        rows.append(
            [
                name,
                *(f"{statistics.median(rates[way]):.0f}" for way in ("memory", "cache")),
                f"{statistics.median(from_cache):.1%}",
                *(f"{statistics.median(rates[way]):.0f}" for way in ("decoding", "files")),
                f"{statistics.median(from_files):.1%}",
            ]
        )
    header = [
        "images/s",
        "in memory",
        "cached",
        "share",
        "decoding alone",
        "from files",
        "of what is possible",
    ]
    return table(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="the fp32 .onnx file")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="further models of the same input")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--labels", type=Path, required=True, help="list with lines `name label`")
    parser.add_argument("--config", default="mobilenetv2.yaml", help="of our command")
    parser.add_argument("--rounds", type=int, default=5, help="timed passes of each (default: 5)")
    given = parser.parse_args(arguments)
    keep_freed_memory()  # as the command does
    config, workers = load_config(given.config).with_data(given.images, given.labels), available_cores()
    signature = read_signature(load_model(given.model), given.model)
    sessions = {path.name: make_session(path, threads=1) for path in (given.model, *given.also)}
    with tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        store = Store(Path(folder), limit_bytes=_STORE_LIMIT_BYTES, warn=print)
        cached, files = (
            load_data(config, signature, progress=False, store=one).evaluation for one in (store, None)
        )
        found = {
            name: measure(session, cached, files, workers=workers, rounds=given.rounds)
            for name, session in sessions.items()
        }
    print(shown(found))
    return 0


if __name__ == "__main__":
    end_with(main)
