"""What each step of the refinement is worth, on images that no step has seen.

python -m benchmarks.ablation --model=M.onnx --images=DIR --labels=val.txt [--seeds=9527,1,2] [--out=FILE]

Every row is a complete run of the main job, and its figures are those of its report: the files that were
written, on the evaluation images. Seeds change which images are calibrated on, chosen by and evaluated on,
and which positions are sampled: their spread says what a difference between two rows is worth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.ending import end_with
from benchmarks.table import table
from quantize import tune

_OFF = {f"refine.{name}": False for name in ("centre", "equalize", "weights", "biases", "gain")}


def _with(*passes: str, effort: str = "fast", ranges: str = "auto") -> dict[str, object]:
    on = {f"refine.{name}": True for name in passes}
    return {"refine.effort": effort, "refine.ranges": ranges, **_OFF, **on}


# Each row adds something to the one before it.
STEPS: Mapping[str, dict[str, object]] = {
    "engine alone": {"refine.effort": "none"},
    "absolute extremes": _with(ranges="minmax"),
    "+ chosen range rule": _with(),
    "+ centred channels": _with("centre"),
    "+ equalization": _with("centre", "equalize"),
    "+ GPTQ, bounded pairs": _with("centre", "equalize", "weights"),
    "+ biases": _with("centre", "equalize", "weights", "biases"),
    "+ gain (fast)": _with("centre", "equalize", "weights", "biases", "gain"),
    "+ several variants (full)": {"refine.effort": "full"},
    "full and scaled ranges": {"refine.effort": "full", "refine.scaling": True},
    "full, 32 calibration images": {
        "refine.effort": "full",
        "quantization.calibration.sampling_size": 32,
        "evaluation.accuracy.sampling_size": 350,
    },
}


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        step: a key of `STEPS`.
        seed: of the run.
        agreement: fraction of the evaluation images with the same top-1 as fp32.
        kl_nats: mean KL divergence from fp32.
        lost, won: images that only fp32, only int8, gets right.
        images: evaluation images.
        refine_s: wall time of the refinement; 0 without.
    """

    step: str
    seed: int
    agreement: float
    kl_nats: float
    lost: int
    won: int
    images: int
    refine_s: float


def measure(step: str, seed: int, arguments: argparse.Namespace) -> Row:
    """Runs the main job once."""
    with tempfile.TemporaryDirectory(prefix="quantize-ablation-") as folder:
        result = tune(
            arguments.model,
            arguments.config,
            folder,
            dataset_location=arguments.images,
            label_path=arguments.labels,
            keep_failed=True,
            overrides={
                **STEPS[step],
                "tuning.random_seed": seed,
                "tuning.accuracy_criterion": {"relative": 0.5},  # any: what is measured is not the criterion
                "quantization.quant_format": "QDQ",
            },
        )
    found = result.report["models"]["int8"]["QDQ"]
    outcomes = found["decline"]["top1"]["outcomes"]
    refinement = result.report["tuning"]["refinement"]
    return Row(
        step,
        seed,
        found["agreement_fraction"],
        found["kl_nats"],
        outcomes["lost"],
        outcomes["won"],
        found["accuracy"]["images"],
        0.0 if refinement is None else refinement["duration_s"],
    )


def shown(rows: Sequence[Row]) -> str:
    """The table: means over the seeds, and the range of the divergence."""
    lines = []
    for step in dict.fromkeys(row.step for row in rows):
        own = [row for row in rows if row.step == step]
        kl = [row.kl_nats for row in own]
        lines.append(
            [
                step,
                f"{statistics.mean(row.agreement for row in own):.2%}",
                f"{statistics.mean(kl):.4f}",
                f"{min(kl):.4f} to {max(kl):.4f}",
                f"{statistics.mean(row.lost - row.won for row in own):+.1f}",
                f"{statistics.mean(row.refine_s for row in own):.0f}",
            ]
        )
    return table(["step", "agreement", "KL, nats", "of the seeds", "lost - won", "refining, s"], lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all steps for all seeds and prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--config", default="mobilenetv2.yaml")
    parser.add_argument("--seeds", default="9527,1,2", type=_numbers)
    parser.add_argument("--steps", nargs="*", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    given = parser.parse_args(arguments)
    rows = [measure(step, seed, given) for step in given.steps for seed in given.seeds]
    print(shown(rows))
    if given.out is not None:
        given.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


if __name__ == "__main__":
    end_with(main)
