"""How time per image and memory behave as images become more: 500, 2,000, 10,000 and 50,000 by default.

python -m benchmarks.scaling --model=M.onnx --images=DIR --labels=val.txt [--counts=500,2000] [--out=DIR]

The sets are hard links to the given images, again and again under new names, so that each file is decoded as
one of its own. The cache is cold at the start of each run and large enough to hold all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.contenders import Contender, Job
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
        peak_memory_bytes: of the process.
        stages: the report's own.
    """

    images: int
    wall_s: float
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
    return Point(count, outcome.cost.wall_s, outcome.cost.peak_memory_bytes, stages)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="the fp32 .onnx file")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--labels", type=Path, required=True, help="list with lines `name label`")
    parser.add_argument("--config", default="mobilenetv2.yaml", help="of our command")
    parser.add_argument("--counts", default="500,2000,10000,50000", help="sizes of the sets")
    parser.add_argument(
        "--flags", default=_SAME_WORK, help=f"further flags of our command (default: {_SAME_WORK})"
    )
    parser.add_argument("--out", type=Path, help="folder for scaling.json")
    parser.add_argument("--scratch", type=Path, help="folder for links and cache; best beside the images")
    given = parser.parse_args(arguments)
    job = Job(given.model.resolve(), given.images.resolve(), given.labels.resolve(), given.config)
    points = []
    for count in sorted({int(count) for count in given.counts.split(",")}):
        with tempfile.TemporaryDirectory(prefix="scaling-", dir=given.scratch) as folder:
            points.append(measure(job, count, shlex.split(given.flags), Path(folder)))
        print(f"{count} images: {points[-1].wall_s:.1f} s", file=sys.stderr, flush=True)
    print(shown(points))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(point) for point in points], indent=2) + "\n"
        (given.out / "scaling.json").write_text(text, encoding="utf-8")
    return 0


def further_ms(points: Sequence[Point]) -> list[float]:
    """Milliseconds of each image more than the set before has, [points - 1].

    What a run does once, refinement above all, is in both sets, and drops out of the difference.
    """
    return [
        (more.wall_s - fewer.wall_s) / (more.images - fewer.images) * _MS_PER_S
        for fewer, more in pairwise(points)
    ]


def shown(points: Sequence[Point]) -> str:
    """The table; ratios are to the first row that has the figure."""
    further = further_ms(points)
    costs = [["-", "-"], *([f"{ms:.2f}", f"{ms / further[0]:.2f}"] for ms in further)]
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
    return table(["images", "wall, s", "ms per further image", "ratio", "memory, MB", "ratio"], rows)


if __name__ == "__main__":
    sys.exit(main())
