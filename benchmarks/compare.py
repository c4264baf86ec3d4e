"""Ours, INC's example and ONNX Runtime's quantizer on the same model and images, in turn, several times.

python -m benchmarks.compare --model=M.onnx --images=DIR --labels=val.txt [--repeats=3] [--out=DIR]

Every repeat runs everybody once, each in a process of its own, so that a drift of the machine's speed meets
all alike; ratios are taken within a repeat and their median is shown. `results.json` keeps every single run,
`wall.svg` shows the medians.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import Contender, Job, Outcome, contenders
from benchmarks.ending import end_with
from benchmarks.plot import bars
from benchmarks.quality import FP32, Quality, judge
from benchmarks.table import megabytes, middle_and_range, table
from quantize.config.machine import available_cores
from quantize.processor import cpu

_REFERENCE = "INC example"
Runs = dict[str, list[Outcome]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit code."""
    given = _parser().parse_args(arguments)
    job = Job(given.model.resolve(), given.images.resolve(), given.labels.resolve(), given.config)
    variants = None if given.flags is None else [shlex.split(flags) for flags in given.flags]
    chosen = [one for one in contenders(variants) if not given.only or one.name in given.only]
    with tempfile.TemporaryDirectory(prefix="compare-", dir=given.scratch) as scratch:
        runs = _run_all(chosen, job, Path(scratch), given.repeats)
        print(f"\n{_costs(runs)}\n", flush=True)
        models = {
            f"{name}, {kind}": path
            for name, outcomes in runs.items()
            if not name.endswith(", warm")  # the same models as cold
            for kind, path in outcomes[-1].models.items()
        }
        quality = judge(job, models, rounds=given.rounds)
    print(_qualities(quality))
    if given.out is not None:
        _save(given.out, runs, quality)
        print(f"\nwrote {given.out / 'results.json'} and {given.out / 'wall.svg'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="the fp32 .onnx file")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--labels", type=Path, required=True, help="list with lines `name label`")
    parser.add_argument("--config", default="mobilenetv2.yaml", help="of our command")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--rounds", type=int, default=30, help="timed calls of each model (default: 30)")
    parser.add_argument(
        "--flags",
        action="append",
        help="a variant of our command by its flags; may be repeated (default: every --refine there is)",
    )
    parser.add_argument("--only", action="append", help="name of a contender; may be repeated")
    parser.add_argument("--out", type=Path, help="folder for results.json and wall.svg")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files")
    return parser


def _run_all(chosen: Sequence[Contender], job: Job, scratch: Path, repeats: int) -> Runs:
    runs: Runs = {contender.name: [] for contender in chosen}
    for number in range(repeats):
        for contender in chosen:
            # A warm run finds what the cold run of the same variant left.
            folder = scratch / contender.name.rpartition(",")[0].replace(" ", "_").replace("/", "_")
            outcome = contender.run(job, folder if contender.module is None else scratch / contender.module)
            runs[contender.name].append(outcome)
            cost = outcome.cost
            print(
                f"repeat {number + 1}: {contender.name}: {cost.wall_s:.1f} s, {cost.cpu_s:.1f} s CPU, "
                f"{megabytes(cost.peak_memory_bytes)} MB",
                file=sys.stderr,
                flush=True,
            )
    return runs


def _ratios(runs: Runs, name: str) -> list[float]:
    """How many times longer the reference took, repeat by repeat."""
    if _REFERENCE not in runs:
        return []
    pairs = zip(runs[_REFERENCE], runs[name], strict=True)
    return [reference.cost.wall_s / own.cost.wall_s for reference, own in pairs]


def _costs(runs: Runs) -> str:
    rows = []
    for name, outcomes in runs.items():
        ratios = _ratios(runs, name)
        costs = [outcome.cost for outcome in outcomes]
        rows.append(
            [
                name,
                middle_and_range([cost.wall_s for cost in costs]),
                f"{median(ratios):.2f}x" if ratios else "-",
                middle_and_range([cost.cpu_s for cost in costs]),
                megabytes(median(cost.peak_memory_bytes for cost in costs)),
                str(outcomes[-1].images_decoded),
            ]
        )
    header = ["both formats", "wall, s", f"faster than {_REFERENCE}", "CPU, s", "memory, MB", "decoded"]
    return table(header, rows)


def _qualities(quality: Mapping[str, Quality]) -> str:
    fp32 = quality[FP32]
    threads = list(fp32.latency_ms)
    header = [
        *(f"{fp32.images} images", "top-1", "agreement", "KL", "integer", "MB"),
        *(f"ms, {count} thr." for count in threads),
        *(f"images/s at 32, {count} thr." for count in threads),
    ]
    rows = [
        [
            name,
            f"{one.top1_fraction:.2%}",
            f"{one.agreement_fraction:.2%}",
            f"{one.kl_nats:.4f}",
            f"{one.integer_operators}/{one.weighted_operators}",
            megabytes(one.size_bytes, 2),
            *(f"{one.latency_ms[count]:.2f}" for count in threads),
            *(f"{one.throughput_images_per_s[count]:.0f}" for count in threads),
        ]
        for name, one in quality.items()
    ]
    return table(header, rows)


def _save(folder: Path, runs: Runs, quality: Mapping[str, Quality]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    costs: dict[str, Any] = {
        name: [
            {
                "wall_s": outcome.cost.wall_s,
                "cpu_s": outcome.cost.cpu_s,
                "peak_memory_bytes": outcome.cost.peak_memory_bytes,
                "images_decoded": outcome.images_decoded,
            }
            for outcome in outcomes
        ]
        for name, outcomes in runs.items()
    }
    results = {
        "machine": {"processor": cpu(), "cores": available_cores(), "system": platform.system()},
        "runs": costs,
        "ratios": {name: _ratios(runs, name) for name in runs},
        "quality": {name: dataclasses.asdict(one) for name, one in quality.items()},
    }
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    walls = {name: median(outcome.cost.wall_s for outcome in outcomes) for name, outcomes in runs.items()}
    chart = bars("From fp32 to both int8 formats: wall time, median", walls, "s")
    (folder / "wall.svg").write_text(chart, encoding="utf-8")


if __name__ == "__main__":
    end_with(main)
