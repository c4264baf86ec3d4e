"""Tunes twice, here and on an emulated CPU without AVX-512 and VNNI, and compares every byte of the results.

    python scripts/same_bytes_on_avx2.py --input_model=m.onnx --config=c.yaml --refine=fast

All arguments are those of `python -m quantize tune`, but for --output_model. Everything that this project
computes has the same bits on both; ONNX Runtime's float kernels add up in another order, which the fp32 model
shows in its last bits, and what is learnt from it may show too. Valgrind's tool `none` translates the whole
program, some fifty times slower than it runs: take a small model and few images.

Exit codes: 0 the same bytes, 1 some differ (which, is printed), 2 it could not be tried.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from quantize.report.volatile import steady  # noqa: E402  # needs the path above

# One thread, because valgrind runs one at a time; without pages, which tell the same as the report.
_FLAGS = ("--threads=1", "--quiet", "--no_html", "--keep_failed")
_LISTED = 12


def tuned(arguments: Sequence[str], folder: Path, emulator: Sequence[str]) -> str:
    """Runs the main job; returns what went wrong, nothing if it ended with a verdict."""
    folder.mkdir()
    command = [*emulator, sys.executable, "-m", "quantize", "tune", *arguments, *_FLAGS]
    done = subprocess.run(
        [*command, f"--output_model={folder}"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (0, 1):
        return ""
    return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]


def differences(here: Path, there: Path) -> Iterator[str]:
    """What differs between the models of two folders, and between their reports; a line each."""
    for path in sorted(here.glob("*.onnx")):
        other = there / path.name
        if not other.is_file():
            yield f"{path.name}: was not written on the emulated CPU"
        elif path.read_bytes() != other.read_bytes():
            yield from _differing_constants(path, other)
    reports = (
        json.loads(next(folder.glob("*report.json")).read_text(encoding="utf-8")) for folder in (here, there)
    )
    one, other_report = (dict(_flat(steady(report))) for report in reports)
    changed = [key for key in {**one, **other_report} if one.get(key) != other_report.get(key)]
    for key in changed[:_LISTED]:
        yield f"report.json {key}: {one.get(key)} here, {other_report.get(key)} there"
    if len(changed) > _LISTED:
        yield f"report.json: and {len(changed) - _LISTED} more fields"


def _differing_constants(path: Path, other: Path) -> Iterator[str]:
    left, right = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
        for file in (path, other)
    )
    found = False
    for name in {**left, **right}:
        a, b = left.get(name), right.get(name)
        if a is None or b is None or a.shape != b.shape:
            found = True
            yield f"{path.name} {name}: is not in both, or of another shape"
        elif a.tobytes() != b.tobytes():
            found = True
            gap = np.abs(a.astype(np.float64) - b)
            yield (
                f"{path.name} {name} ({a.dtype}): {int((gap > 0).sum())} of {a.size} numbers differ, by at "
                f"most {gap.max():.6g}"
            )
    if not found:
        yield f"{path.name}: differs outside of its constants"


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _flat(item, f"{at}.{position}")
    else:
        yield at, value


def main(argv: Sequence[str] | None = None) -> int:
    """The script."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0 if arguments else 2
    if shutil.which("valgrind") is None:
        print("error: valgrind: not found; install the package of that name", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="quantize-same-") as name:
        here, there = Path(name) / "here", Path(name) / "there"
        for folder, emulator in ((here, []), (there, ["valgrind", "--tool=none", "-q"])):
            problem = tuned(arguments, folder, emulator)
            if problem:
                print(f"error: {' '.join([*emulator, 'tune'])}: {problem}", file=sys.stderr)
                return 2
        found = list(differences(here, there))
        for path in sorted(here.glob("*.onnx")):
            if not any(line.startswith(path.name) for line in found):
                print(f"{path.name}: the same {path.stat().st_size} bytes")
    for line in found:
        print(line)
    print("the same bytes, but for times" if not found else f"{len(found)} differences")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
