"""Runs models on an emulated CPU without VNNI, and compares every output bit with that of exact kernels.

    python scripts/check_on_avx2.py out/m-int8.onnx out/m-qdq.onnx
    python scripts/check_on_avx2.py --config=mobilenetv2.yaml --dataset_location=DIR --count=8 out/*.onnx

Valgrind's tool `none` translates a program for a CPU that has AVX2 and neither AVX-512 nor VNNI, so ONNX
Runtime chooses the kernels that add neighbouring products in int16 with saturation (`VPMADDUBSW`): the ones
that an artefact for every CPU has to survive. Compared are kernels that never saturate, run natively on this
CPU, whatever it is. Needs `valgrind` (Debian: the package of that name) on x86-64.

Exit codes: 0 all outputs are equal bit for bit, 1 some differ, 2 it could not be tried.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from quantize.errors import InputError, PipelineError  # noqa: E402  # needs the path above
from quantize.portability import EXACT_KERNELS  # noqa: E402
from quantize.saturation import find_saturation  # noqa: E402
from quantize.session import input_shape, make_session, run  # noqa: E402

Array = npt.NDArray[Any]

_EXACT, _EMULATED, _DETECTED = "exact", "emulated", "detected"


def emulation_is_possible() -> bool:
    """Whether valgrind is installed; it says so itself where it does not know the CPU."""
    return shutil.which("valgrind") is not None


def outputs_on_both(cases: Sequence[tuple[Path, Array]], folder: Path) -> list[tuple[Array, Array]]:
    """Runs models with exact kernels on this CPU, and as they are on the emulated one.

    Args:
        cases: model and the images it is run on, one after another, [N, ...].
        folder: for the files that the processes exchange.

    Returns:
        For each case, the exact outputs and the emulated CPU's, [N, ...].

    Raises:
        InputError: there is no valgrind.
        PipelineError: a process failed.
    """
    if not emulation_is_possible():
        raise InputError("valgrind: not found; install the package of that name, or run on an AVX2 machine")
    for number, (_, images) in enumerate(cases):
        np.save(folder / f"{number}-images.npy", images)
    models = [str(path) for path, _ in cases]
    here = [sys.executable, str(Path(__file__).resolve()), "--in_folder", str(folder)]
    _finish([*here, "--name", _EXACT, *models])
    _finish(["valgrind", "--tool=none", "-q", *here, "--name", _EMULATED, *models])
    return [
        (np.load(folder / f"{number}-{_EXACT}.npy"), np.load(folder / f"{number}-{_EMULATED}.npy"))
        for number in range(len(cases))
    ]


def _finish(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"{command[0]} ended with {done.returncode}: {last}")


def _run_here(models: Sequence[str], folder: Path, name: str) -> None:
    """What the processes do: each model on its images, one image at a time and one thread."""
    for number, path in enumerate(models):
        session = make_session(path, threads=1, config_entries=EXACT_KERNELS if name == _EXACT else None)
        names = [item.name for item in session.get_outputs()]
        feed = session.get_inputs()[0].name
        images = np.load(folder / f"{number}-images.npy")
        size = input_shape(session)[0] or 1
        rows = [
            run(session, names[:1], {feed: images[start : start + size]}, model=path)[0]
            for start in range(0, len(images) - size + 1, size)
        ]
        np.save(folder / f"{number}-{name}.npy", np.concatenate(rows))
        if name == _EMULATED:
            (folder / f"{number}-{_DETECTED}.txt").write_text(_detected(Path(path), images), encoding="ascii")


def _detected(path: Path, images: Array) -> str:
    """On how many images the program itself finds that this CPU saturates; "?" for what is no classifier."""
    try:
        found = find_saturation(path, images)
    except PipelineError:
        return "?"
    return "0" if found is None else str(found.equality.images - found.equality.equal_images)


def _images(arguments: argparse.Namespace) -> Array:
    """The first evaluation images of the configuration, or seeded noise where none is given."""
    path: Path = arguments.models[0]
    if arguments.config is None:
        session = make_session(path, threads=1)
        batch, *rest = input_shape(session)
        count = -(-arguments.count // (batch or 1)) * (batch or 1)
        shape = [count, *(extent or 224 for extent in rest)]
        return np.random.default_rng(arguments.seed).normal(0, 1, shape).astype(np.float32)
    from quantize.config import load_config
    from quantize.data import evaluation_data
    from quantize.model import load_model, read_signature

    config = load_config(arguments.config).with_data(arguments.dataset_location, arguments.label_path)
    loader = evaluation_data(config, read_signature(load_model(path), path), progress=False).loader
    found: list[Array] = []
    for images, _ in loader:
        found.append(images)
        if sum(map(len, found)) >= arguments.count:
            break
    return np.concatenate(found)[: arguments.count]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, help="int8 models of one input shape")
    parser.add_argument("--config", type=Path, help="whose evaluation images (default: seeded noise)")
    parser.add_argument("--dataset_location", type=Path, help="as for run_tuning.sh")
    parser.add_argument("--label_path", type=Path, help="as for run_tuning.sh")
    parser.add_argument("--count", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--seed", type=int, default=9527, help="of the noise (default: 9527)")
    parser.add_argument("--in_folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The script."""
    arguments = _parser().parse_args(argv)
    if arguments.in_folder is not None:
        _run_here([str(path) for path in arguments.models], arguments.in_folder, arguments.name)
        return 0
    try:
        images = _images(arguments)
        with tempfile.TemporaryDirectory(prefix="quantize-avx2-") as folder:
            found = outputs_on_both([(path, images) for path in arguments.models], Path(folder))
            detected = [
                (Path(folder) / f"{number}-{_DETECTED}.txt").read_text(encoding="ascii")
                for number in range(len(found))
            ]
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, (exact, emulated), seen in zip(arguments.models, found, detected, strict=True):
        equal = np.array(
            [one.tobytes() == other.tobytes() for one, other in zip(exact, emulated, strict=True)]
        )
        digests = [hashlib.sha256(values.tobytes()).hexdigest()[:16] for values in (exact, emulated)]
        difference = float(np.abs(exact.astype(np.float64) - emulated).max())
        print(
            f"{path.name}: {int(equal.sum())} of {len(equal)} images bit-equal, largest difference "
            f"{difference:.6g}; sha256 exact {digests[0]}…, emulated {digests[1]}…; "
            f"found on the emulated CPU itself: {seen} saturate"
        )
    return int(any(exact.tobytes() != emulated.tobytes() for exact, emulated in found))


if __name__ == "__main__":
    sys.exit(main())
