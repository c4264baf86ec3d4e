"""How time per image and memory behave as images become more: 500, 2,000, 10,000 and 50,000 by default.

python -m benchmarks.scaling --model=M.onnx --images=DIR --labels=val.txt [--counts=500,2000] [--out=DIR]

The sets are hard links to the given images, again and again under new names, so that each file is decoded as
one of its own. The cache is cold at the start of each run and large enough to hold all of them. Sizes are run
in the order given; of one that is given several times (500,2000,500) the median counts, so that a machine
that becomes slower or faster meanwhile does not look like a cost of many images.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.contenders import Contender, Job
from benchmarks.ending import end_with
from benchmarks.table import megabytes, table

# A tolerance that the first trial meets: with more trials for some sizes, their work could not be compared.
_SAME_WORK = "--tolerable_loss=0.1"

# 150 kB of pixels and 4 kB of results an image, and the share of the limit that pixels may take.
_CACHE_GB_PER_IMAGE = 2e-4
_MS_PER_S = 1e3


@dataclass(frozen=True)
class Point:
    """One size of set.

    Attributes:
        images: in the set, calibration images included.
        wall_s: of the whole command.
        cpu_s: of the whole command, on all cores.
        peak_memory_bytes: of the process.
        stages: the report's own.
    """

    images: int
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    stages: list[dict[str, object]]


def link_images(images: Path, image_list: Path, count: int, folder: Path) -> tuple[Path, Path]:
    """Makes a set of `count` images of hard links (copies where the file system refuses); folder and list."""
    lines = [line.rsplit(maxsplit=1) for line in image_list.read_text(encoding="utf-8").splitlines() if line]
    linked = folder / "images"
    linked.mkdir(parents=True)
    made = []
    for number in range(count):
        name, label = lines[number % len(lines)]
        target = f"{number // len(lines):04}-{Path(name).name}"
        try:
            os.link(images / name, linked / target)
        except OSError:  # another file system
            (linked / target).write_bytes((images / name).read_bytes())
        made.append(f"{target} {label}")
    listed = folder / "val.txt"
    listed.write_text("\n".join(made) + "\n", encoding="utf-8")
    return linked, listed


def measure(job: Job, count: int, flags: Sequence[str], folder: Path) -> Point:
    """Runs our command once on `count` images."""
    images, image_list = link_images(job.images, job.image_list, count, folder)
    size = max(1.0, count * _CACHE_GB_PER_IMAGE)
    contender = Contender("ours", flags=[f"--cache_size={size:g}", *flags])
    outcome = contender.run(Job(job.model, images, image_list, job.config), folder / "run")
    (report,) = (folder / "run" / "out").glob("*report*.json")
    stages = json.loads(report.read_text(encoding="utf-8"))["run"]["stages"]
    cost = outcome.cost
    return Point(count, cost.wall_s, cost.cpu_s, cost.peak_memory_bytes, stages)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="the fp32 .onnx file")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--labels", type=Path, required=True, help="list with lines `name label`")
    parser.add_argument("--config", default="mobilenetv2.yaml", help="of our command")
    parser.add_argument(
        "--counts", default="500,2000,10000,50000", help="sizes of the sets, in order; repeats count as one"
    )
    parser.add_argument(
        "--flags", default=_SAME_WORK, help=f"further flags of our command (default: {_SAME_WORK})"
    )
    parser.add_argument("--out", type=Path, help="folder for scaling.json")
    parser.add_argument("--scratch", type=Path, help="folder for links and cache; best beside the images")
    given = parser.parse_args(arguments)
    job = Job(given.model.resolve(), given.images.resolve(), given.labels.resolve(), given.config)
    points = []
    for count in map(int, given.counts.split(",")):
        with tempfile.TemporaryDirectory(prefix="scaling-", dir=given.scratch) as folder:
            points.append(measure(job, count, shlex.split(given.flags), Path(folder)))
        print(f"{count} images: {points[-1].wall_s:.1f} s", file=sys.stderr, flush=True)
    print(shown(medians(points)))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(point) for point in points], indent=2) + "\n"
        (given.out / "scaling.json").write_text(text, encoding="utf-8")
    return 0


def medians(points: Sequence[Point]) -> list[Point]:
    """One point for each size, the smallest first; without stages where there were several runs."""
    found = []
    for count in sorted({point.images for point in points}):
        runs = [point for point in points if point.images == count]
        found.append(
            Point(
                count,
                median(run.wall_s for run in runs),
                median(run.cpu_s for run in runs),
                round(median(run.peak_memory_bytes for run in runs)),
                runs[0].stages if len(runs) == 1 else [],
            )
        )
    return found


def further_ms(points: Sequence[Point], cost: Callable[[Point], float]) -> list[float]:
    """Milliseconds of each image more than the set before has, [points - 1].

    What a run does once, refinement above all, is in both sets, and drops out of the difference.

    Args:
        points: the smallest set first.
        cost: seconds of a point.
    """
    return [
        (cost(more) - cost(fewer)) / (more.images - fewer.images) * _MS_PER_S
        for fewer, more in pairwise(points)
    ]


def shown(points: Sequence[Point]) -> str:
    """The table; ratios are to the first row that has the figure."""
    costs = [["-"] * 4 for _ in points]
    for place, cost in ((0, lambda one: one.wall_s), (2, lambda one: one.cpu_s)):
        further = further_ms(points, cost)
        for row, ms in zip(costs[1:], further, strict=True):
            row[place : place + 2] = f"{ms:.2f}", f"{ms / further[0]:.2f}"
    rows = [
        [
            f"{point.images:,}",
            f"{point.wall_s:.1f}",
            *cost,
            megabytes(point.peak_memory_bytes),
            f"{point.peak_memory_bytes / points[0].peak_memory_bytes:.2f}",
        ]
        for point, cost in zip(points, costs, strict=True)
    ]
    header = ["images", "wall, s", "ms per further image", "ratio", "CPU ms", "ratio", "memory, MB", "ratio"]
    return table(header, rows)


if __name__ == "__main__":
    end_with(main)
