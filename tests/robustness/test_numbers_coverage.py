"""No numeric function is left out of the property tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

# The modules whose functions compute.
NUMERIC = (
    "quantize/scales.py",
    "quantize/weights.py",
    "quantize/metrics.py",
    "quantize/statistics.py",
    "quantize/sequential.py",
    "quantize/ranges/collect.py",
    "quantize/ranges/rules.py",
    "quantize/refine/rounding.py",
    "quantize/refine/geometry.py",
    "quantize/refine/scaling.py",
    "quantize/refine/centre.py",
    "quantize/refine/equalize.py",
    "quantize/refine/gain.py",
    "quantize/refine/biases.py",
    "quantize/refine/ranking.py",
    "quantize/refine/tails.py",
    "calibration/transforms/arithmetic.py",
    "calibration/transforms/geometry.py",
    "calibration/transforms/imagenet.py",
)

# What there computes no number of its own: walks over graphs, wiring of passes, words, checks of parameters.
NOT_NUMERIC = {
    "quantize.ranges.collect": {"each_alone", "_with_outputs"},
    "quantize.refine.geometry": {
        *("geometry_of", "_two_dimensional", "_four"),
        *("Geometry.outputs", "Geometry.inputs", "Geometry.depth", "Geometry.depthwise"),
    },
    "quantize.refine.scaling": {
        *("find_multipliers", "scaled", "scalable", "multipliers_in_words", "_divergences", "_image_limit"),
    },
    "quantize.refine.centre": {
        *("find_streams", "_linear_operators", "_tied", "_readers", "_alike", "_parts"),
        *("_rounding", "_give_bias", "_drop_unread"),
    },
    "quantize.refine.equalize": {"find_channels", "_clip_stays", "_can_scale", "_can_unscale"},
    "quantize.refine.gain": {"scoring_operator"},
    "quantize.refine.biases": {"refine_biases", "corrected_operators", "_bias"},
    "quantize.refine.tails": {
        *("each_tail", "_tails", "_advanced", "_tail", "_reading", "Tail._session"),
    },
    "quantize.metrics": {"Counts.empty", "Fidelity.empty"},
    "quantize.sequential": {"Sequential.seen"},
    "calibration.transforms.geometry": {"_crop_error", "Resize._width_height", "CenterCrop._height_width"},
    "calibration.transforms.imagenet": {"_per_channel", "_require_raw_pixels", "BilinearImagenet._centre"},
}


def defined(path: Path) -> Iterator[str]:
    """Functions and methods; of a transform, the class stands for its methods."""
    transforms = "transforms" in path.parts
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            names = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
            if transforms and "__call__" in names:
                yield node.name
                names = [name for name in names if name not in ("trace", "to_json")]
            yield from (f"{node.name}.{name}" for name in names if not name.startswith("__"))


def covered() -> set[str]:
    """The functions that the property tests of this folder name."""
    found = set()
    for path in Path(__file__).parent.glob("test_numbers_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "covers":
                found.update(str(one.value) for one in node.args if isinstance(one, ast.Constant))
    return found


@pytest.mark.parametrize("path", NUMERIC)
def test_every_numeric_function_has_a_property(path: str) -> None:
    module = path.removesuffix(".py").replace("/", ".")
    functions = set(defined(PROJECT / path))
    excused = NOT_NUMERIC.get(module, set())
    assert excused <= functions, "an excuse for what is not there"
    named = covered()
    assert {name for name in functions - excused if f"{module}.{name}" not in named} == set()


def test_no_property_covers_what_does_not_exist() -> None:
    for name in covered():
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            path = PROJECT.joinpath(*parts[:length]).with_suffix(".py")
            if path.is_file():
                assert ".".join(parts[length:]) in set(defined(path)), name
                break
        else:
            pytest.fail(f"{name}: no such module")
