"""The same inputs, seed and versions give the same bytes, wherever and however the program runs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from quantize.report.volatile import PLACES, TIMES, VOLATILE, steady
from quantize.session import make_session, outputs
from tests.quantize.image_samples import CLASSES, EXTENT, TRANSFORM, folders
from tests.quantize.net import Net

COUNT = 56

# Locales sort and lower these differently: the Turkish dotless i and its capital, umlauts, capitals.
NAMES = ("I", "\u0131", "i", "\u0130", "\u00e4", "z")

# Runs the command line after hiding or disturbing something; the first argument names what.
HARNESS = """
import os, random, sys

what, *argv = sys.argv[1:]
if what == "shuffled":
    rng, listed, scanned = random.Random(99), os.listdir, os.scandir

    def listdir(*given):
        names = listed(*given)
        rng.shuffle(names)
        return names

    class Shuffled:
        def __init__(self, *given):
            with scanned(*given) as entries:
                self.entries = list(entries)
            rng.shuffle(self.entries)
            self.rest = iter(self.entries)
        def __enter__(self): return self
        def __exit__(self, *_): return None
        def __iter__(self): return self
        def __next__(self): return next(self.rest)
        def close(self): return None

    os.listdir, os.scandir = listdir, Shuffled
if what == "featureless":
    from pathlib import Path
    import quantize.processor
    # /proc/cpuinfo, which our own detection reads.
    nowhere = Path("/nonexistent/cpuinfo")
    quantize.processor.CPUINFO = nowhere
    quantize.processor.cpu.__defaults__ = (nowhere,)
    # py-cpuinfo, which the engine's CpuInfo asks: it finds neither VNNI nor anything else.
    import cpuinfo
    cpuinfo.get_cpu_info = dict
if what == "featured":
    import cpuinfo

    class Everything:
        def get_max_extension_support(self): return 7
        def _run_asm(self, *_): return 0xFFFFFFFF

    cpuinfo.get_cpu_info, cpuinfo.CPUID = lambda: {"arch": "X86_64"}, Everything
    import quantize.processor
    quantize.processor.cpu = lambda *_: ("Everything", ["amx_int8", "avx512_vnni", "avx_vnni"])
os.umask(int(os.environ.get("HARNESS_UMASK", "022"), 8))
from quantize.cli import main
sys.exit(main(argv))
"""


# The arithmetic of the refinement on correlated inputs, where the error of one weight moves into many others.
ROUNDING = """
import hashlib
import numpy as np
from quantize.refine.rounding import Grid, best_rounding, best_scales, gptq
from quantize.refine.weights import _hessian, _levels, _steps
from quantize.scales import activation_scale

random, digest = np.random.default_rng(7), hashlib.sha256()
for groups, rows, depth, count in ((1, 48, 300, 700), (24, 1, 9, 500), (2, 12, 72, 600)):
    mix = random.normal(size=(groups, depth, 24)) / 5
    vectors = np.einsum("gdk,ngk->ngd", mix, random.normal(size=(count, groups, 24))) + 0.1
    vectors = np.maximum(vectors, 0).astype(np.float32)
    entry = activation_scale(0.0, float(np.quantile(vectors, 0.999)))
    weights = random.standard_t(4, size=(groups, rows, depth)).astype(np.float32)
    hessian, grid = _hessian(_steps(vectors, entry), entry.scale), Grid(127, paired=groups == 1)
    scales = best_scales(weights, hessian, grid, _levels(grid))
    digest.update(hessian.tobytes() + scales.tobytes() + gptq(weights, hessian, scales, grid).tobytes())
    if depth < 99:
        fine, integers = best_rounding(weights, hessian, grid, _levels(grid, fine=True))
        digest.update(fine.tobytes() + integers.tobytes())
print(digest.hexdigest())
"""

# Kernels of OpenBLAS that add up in other orders, by the CPUs that they are for; it refuses none of them here
# whose instructions are missing, so those of AVX-512 are left out.
CORES = ("Prescott", "Nehalem", "Sandybridge", "Haswell")


def classifier() -> onnx.ModelProto:
    """A padded stem, a depthwise and a strided convolution, an addition, two Gemms: every pass has work."""
    net = Net(13, seed=4)
    x = net.clip(net.conv("image", 3, 12))
    x = net.clip(net.conv(x, 12, 12, group=12))
    y = net.conv(x, 12, 8, 1)
    z = net.conv(net.clip(net.conv(y, 8, 24, 1)), 24, 8, 1)
    y = net.node("Add", y, z)
    net.head(net.relu(net.conv(y, 8, 24, 3, strides=[2, 2])), 24, classes=CLASSES)
    return net.model(shape=["n", 3, EXTENT, EXTENT], classes=CLASSES)


@dataclass(frozen=True)
class Finished:
    folder: Path
    report: dict[str, Any]
    models: Mapping[str, bytes]
    report_text: bytes


Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images labelled by it in folders of classes, and a configuration."""
    root = tmp_path_factory.mktemp("inputs")
    model = classifier()
    onnx.save(model, root / "m.onnx")
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (COUNT, 4, 4, 3)).astype(np.uint8)
    pixels = np.repeat(np.repeat(coarse, EXTENT // 4, axis=1), EXTENT // 4, axis=2)
    images = (pixels.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)
    scores = outputs(make_session(model, threads=1), images)
    labels = (scores - scores.mean(axis=0)).argmax(axis=1)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        name = f"{NAMES[number % len(NAMES)]}{number:02d}.{'PNG' if number % 2 else 'png'}"
        (root / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(root / "images" / str(label) / name, format="PNG")
    for label in range(CLASSES):
        (root / "images" / str(label)).mkdir(exist_ok=True)
    data = {"dataloader": {"dataset": folders(root / "images"), "transform": TRANSFORM}}
    config = {
        "quantization": {"calibration": {"sampling_size": 16, **data}},
        "evaluation": {"accuracy": {**data}},
        "refine": {"effort": "full"},
        "cache": {"enabled": False},
        "tuning": {"accuracy_criterion": {"absolute": 0.9}},
    }
    (root / "c.yaml").write_text(json.dumps(config), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def run(inputs: Path, project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    def go(
        what: str = "plain",
        *flags: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        model: str | None = None,
        config: str | None = None,
        output: str | None = None,
    ) -> Finished:
        folder = tmp_path_factory.mktemp("out") if output is None else (cwd or Path()) / output
        known = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ}
        command = [
            *(sys.executable, "-c", HARNESS, what, "tune", "--threads=1", "--quiet"),
            f"--input_model={model or inputs / 'm.onnx'}",
            f"--config={config or inputs / 'c.yaml'}",
            f"--output_model={output or folder}",
            *flags,
        ]
        done = subprocess.run(
            command,
            cwd=cwd or inputs,
            env={**known, "PYTHONPATH": str(project_root), "PYTHONHASHSEED": "0", **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        models = {path.name: path.read_bytes() for path in sorted(folder.glob("*.onnx"))}
        text = (folder / "report.json").read_bytes()
        return Finished(folder, json.loads(text), models, text)

    return go


@pytest.fixture(scope="module")
def first(run: Run) -> Finished:
    return run()


def row(does: str) -> Any:
    return pytest.mark.robustness("Same bytes", does, "models and report.json are the same, but for times")


def assert_same(one: Finished, other: Finished) -> None:
    assert len(one.models) == 2
    assert [name for name in one.models if one.models[name] != other.models[name]] == []
    assert list(one.models) == list(other.models)
    here, there = (json.dumps(steady(run.report), indent=1, sort_keys=True) for run in (one, other))
    assert here.splitlines() == there.splitlines()


# What this build of numpy may be told not to use.
NUMPY_FEATURES = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"


@pytest.fixture(scope="module")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Turkish locale, made here where the system has none."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is not None:
        command = ["localedef", "-c", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")]
        subprocess.run(command, capture_output=True, check=False)
    return {"LC_ALL": "tr_TR.UTF-8", **({"LOCPATH": str(folder)} if any(folder.iterdir()) else {})}


# Runs are dear, so each is disturbed in several ways at once: where all bytes are the same, none counts.
@row("Run again in another time zone")
@row("Another PYTHONHASHSEED")
@row("Folders listed in another order")
def test_time_zone_hash_seed_and_listing(run: Run, first: Finished) -> None:
    found = run("shuffled", environment={"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu"})
    assert_same(first, found)
    assert found.report["run"]["started_at"].endswith("+00:00")
    # Times and places are what is left to differ, and they do.
    assert steady(first.report, TIMES) != steady(found.report, TIMES)
    assert first.report["run"]["stages"] != found.report["run"]["stages"]


@row("Another number of threads")
@row("Another working directory, and relative paths")
@row("Another umask")
@row("The locale tr_TR.UTF-8, which lowers I to a dotless i")
def test_threads_folder_umask_and_locale(
    run: Run, first: Finished, inputs: Path, tmp_path: Path, turkish: dict[str, str]
) -> None:
    (tmp_path / "here").mkdir()
    os.symlink(inputs, tmp_path / "here" / "data")
    found = run(
        "plain",
        "--threads=3",
        environment={**turkish, "HARNESS_UMASK": "077"},
        cwd=tmp_path / "here",
        model="data/m.onnx",
        config="data/c.yaml",
        output="out",
    )
    assert_same(first, found)
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.folder.glob("*.onnx")} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in first.folder.glob("*.onnx")} == {0o644}


@row("The locale C")
@row("The CPU's features hidden from our detection and the engine's, from numpy and from OpenBLAS")
def test_hidden_features(run: Run, first: Finished) -> None:
    hidden = {"NPY_DISABLE_CPU_FEATURES": NUMPY_FEATURES, "OPENBLAS_CORETYPE": "Prescott"}
    found = run("featureless", environment={**hidden, "LC_ALL": "C"})
    assert_same(first, found)
    assert found.report["run"]["platform"]["cpu_features"] == []


@row("The locale POSIX")
@row("Features claimed that the CPU may not have (AMX, VNNI, bf16)")
@row("Another kernel of OpenBLAS (Haswell)")
def test_claimed_features(run: Run, first: Finished) -> None:
    found = run("featured", environment={"LC_ALL": "POSIX", "OPENBLAS_CORETYPE": "Haswell"})
    assert_same(first, found)


@row("Weights of large layers are rounded with every kernel that OpenBLAS has for x86")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="these kernels are those of x86-64")
def test_weights_do_not_depend_on_the_kernels_of_openblas(project_root: Path) -> None:
    found = {
        core: subprocess.run(
            [sys.executable, "-c", ROUNDING],
            env={**os.environ, "PYTHONPATH": str(project_root), "OPENBLAS_CORETYPE": core},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for core in CORES
    }
    assert len(set(found.values())) == 1, found


@pytest.mark.robustness(
    "Same bytes",
    "The list of fields that may differ is held against a real report",
    "every entry is there",
)
def test_the_list_of_volatile_fields_is_exact(first: Finished) -> None:
    def paths(value: Any, at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        if isinstance(value, dict):
            return {p for key, item in value.items() for p in paths(item, (*at, key))} | {at}
        if isinstance(value, list):
            return {p for item in value for p in paths(item, (*at, "*"))} | {at}
        return {at}

    there = paths(first.report) | {
        tuple("*" if part in ("QDQ", "QOperator") else part for part in path) for path in paths(first.report)
    }
    assert {pattern for pattern in VOLATILE if tuple(pattern.split(".")) not in there} == set()
    assert set(TIMES).isdisjoint(PLACES)
