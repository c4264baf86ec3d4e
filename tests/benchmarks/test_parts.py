"""The parts of the benchmarks: costs of programs, tables, charts, and images as examples read them."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from benchmarks.naive_images import NaiveLoader
from benchmarks.plot import bars
from benchmarks.process import ProgramFailed, run
from benchmarks.scaling import Point, further_ms, link_images, medians, shown
from benchmarks.table import middle_and_range, table
from calibration.decode import load_image
from calibration.transforms import build_pipeline


def test_the_cost_of_a_program_is_its_own() -> None:
    idle = run([sys.executable, "-c", "print('done')"])
    assert idle.output == "done\n"
    busy = run([sys.executable, "-c", "x = bytearray(300_000_000)\nfor _ in range(5_000_000): pass"])
    assert busy.cpu_s > idle.cpu_s
    assert busy.peak_memory_bytes > 300_000_000 > idle.peak_memory_bytes
    assert busy.wall_s > 0


def test_a_program_that_fails_is_quoted() -> None:
    command = [sys.executable, "-c", "import sys; print('out of luck', file=sys.stderr); sys.exit(4)"]
    with pytest.raises(ProgramFailed, match="ended with 4: out of luck"):
        run(command)
    assert run(command, accepted=(0, 4)).output == ""


def test_variables_reach_the_program() -> None:
    cost = run([sys.executable, "-c", "import os; print(os.environ['X'])"], environment={"X": "here"})
    assert cost.output == "here\n"


def test_a_table_lines_up() -> None:
    text = table(["who", "wall, s"], [["ours", "8.1"], ["another one", "70.0"]])
    assert text.splitlines() == [
        "who          wall, s",
        "--------------------",
        "ours             8.1",
        "another one     70.0",
    ]
    assert middle_and_range([3.0, 1.0, 2.0]) == "2.0 (1.0-3.0)"
    assert middle_and_range([3.0]) == "3.0"


def test_a_chart_has_bars_in_proportion() -> None:
    root = ElementTree.fromstring(bars("A < B", {"ours": 10.0, "INC & co": 40.0}, "s"))
    space = "{http://www.w3.org/2000/svg}"
    lengths = [float(rect.attrib["width"]) for rect in root.iter(f"{space}rect")][1:]
    assert lengths[1] == pytest.approx(4 * lengths[0], abs=0.2)
    assert "INC & co" in [text.text for text in root.iter(f"{space}text")]
    assert ElementTree.fromstring(bars("nothing", {}, "s")) is not None


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(2)
    for index, size in enumerate([(300, 280), (256, 400), (333, 500)]):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{index}.jpg")
    listed = tmp_path / "val.txt"
    listed.write_text("0.jpg 4\n1.jpg 5\n2.jpg 6\n")
    return folder, listed


def test_examples_see_the_same_pixels_as_the_pipeline(photos: tuple[Path, Path]) -> None:
    folder, listed = photos
    loader = NaiveLoader(folder, listed)
    pipeline = build_pipeline(
        {
            "ResizeShortest": {"size": 256},
            "CenterCrop": {"size": 224},
            "Rescale": None,
            "Normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            "Transpose": {"perm": [2, 0, 1]},
        }
    )
    for _ in range(2):
        made = list(loader)
        for index, (image, label) in enumerate(made):
            expected, _ = pipeline(load_image(folder / f"{index}.jpg"), 0)
            assert label == index + 4
            # float64 with one rounding at the end against float32 throughout
            np.testing.assert_allclose(image[0], expected, atol=1e-6)
    assert loader.decoded_count == 6
    assert [label for _, label in NaiveLoader(folder, listed, 2)] == [4, 5]


def test_sets_of_links_are_as_large_as_asked(photos: tuple[Path, Path], tmp_path: Path) -> None:
    folder, listed = photos
    linked, names = link_images(folder, listed, 8, tmp_path / "set")
    lines = [line.split() for line in names.read_text().splitlines()]
    assert len(lines) == len({name for name, _ in lines}) == 8
    assert [label for _, label in lines] == ["4", "5", "6", "4", "5", "6", "4", "5"]
    for number, (name, _) in enumerate(lines):
        assert (linked / name).read_bytes() == (folder / f"{number % 3}.jpg").read_bytes()


def test_what_a_run_does_once_is_no_cost_of_further_images() -> None:
    once_s, image_s = 30.0, 0.012
    counts = (500, 2_000, 10_000)
    points = [Point(n, once_s + n * image_s, once_s + 2 * n * image_s, 1_000_000 * n, []) for n in counts]
    np.testing.assert_allclose(further_ms(points, lambda one: one.wall_s), [12.0, 12.0], rtol=1e-9)
    rows = [line.split() for line in shown(points).splitlines()[2:]]
    assert [row[2:6] for row in rows] == [
        ["-", "-", "-", "-"],
        ["12.00", "1.00", "24.00", "1.00"],
        ["12.00", "1.00", "24.00", "1.00"],
    ]
    assert [row[-1] for row in rows] == ["1.00", "4.00", "20.00"]
    assert further_ms(points[:1], lambda one: one.wall_s) == []


def test_of_a_size_that_is_run_again_the_median_counts() -> None:
    points = [Point(n, wall, 2 * wall, 10 * n, [{}]) for n, wall in ((500, 3.0), (2_000, 9.0), (500, 5.0))]
    fewer, more = medians(points)
    assert fewer == Point(500, 4.0, 8.0, 5_000, [])
    assert more == points[1]
