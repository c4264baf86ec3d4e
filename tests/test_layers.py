"""The rules that hold across modules: who may import what, and what no file may contain."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    path for package in ("calibration", "quantize") for path in (PROJECT / package).rglob("*.py")
)

# Each of them takes from 0.1 s to several seconds to import, and `--help` has half a second.
HEAVY = {
    "cv2",
    "jinja2",
    "matplotlib",
    "neural_compressor",
    "numpy",
    "onnx",
    "onnxruntime",
    "PIL",
    "pydantic",
    "rich",
    "sklearn",
}


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Everything in a file, read once for all rules."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imported_modules(path: Path) -> tuple[str, ...]:
    """The full name of every module that the file imports anywhere, relative ones made absolute."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = path.relative_to(PROJECT).parent.parts
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def called_names(path: Path) -> Iterator[str]:
    """Yields the last part of the name of everything that the file calls."""
    for node in nodes_of(path):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr
            elif isinstance(node.func, ast.Name):
                yield node.func.id


def importers_of(package: str) -> list[str]:
    return [
        name_of(path)
        for path in MODULES
        if any(name == package or name.startswith(package + ".") for name in imported_modules(path))
    ]


def test_calibration_does_not_know_quantize() -> None:
    assert [name for name in importers_of("quantize") if name.startswith("calibration/")] == []


def test_only_the_engine_imports_neural_compressor() -> None:
    assert [
        name for name in importers_of("neural_compressor") if not name.startswith("quantize/engine/")
    ] == []


def test_only_the_report_draws_and_renders() -> None:
    assert [n for n in importers_of("matplotlib") if not n.startswith("quantize/report/charts/")] == []
    assert [n for n in importers_of("jinja2") if not n.startswith("quantize/report/")] == []


def test_measuring_does_not_know_how_it_is_told() -> None:
    measuring = [path for path in MODULES if "diagnose" in path.parts]
    assert measuring
    for path in measuring:
        wrong = ("quantize.report", "quantize.pipeline", "quantize.engine", "quantize.cli")
        assert not [name for name in imported_modules(path) if name.startswith(wrong)], path


def test_only_one_module_builds_inference_sessions() -> None:
    builders = [
        name_of(path)
        for path in MODULES
        if {"InferenceSession", "SessionOptions"}.intersection(called_names(path))
    ]
    assert set(builders) <= {"quantize/session.py"}


def test_only_one_room_reads_models() -> None:
    """`kernels` and `prepare` read what ONNX Runtime wrote just now, the worker what its parent has read."""
    own = {"quantize/kernels.py", "quantize/prepare.py", "quantize/rehearsal_worker.py"}
    readers = {
        name_of(path)
        for path in MODULES
        if re.search(r"\bonnx\.load|ModelProto\.FromString|ParseFromString", path.read_text(encoding="utf-8"))
    }
    assert readers - own == {"quantize/loading/read.py"}
    loading = [path for path in MODULES if name_of(path).startswith("quantize/loading/")]
    known = ("quantize.errors", "quantize.loading")
    assert loading
    for path in loading:
        imported = [name for name in imported_modules(path) if name.startswith(("quantize.", "calibration."))]
        assert [name for name in imported if not name.startswith(known)] == [], path


def test_targets_depend_on_no_machine() -> None:
    """What a deployment's kernels can do is data: nothing that it imports could look at this CPU."""
    imported = {name.partition(".")[0] for name in imported_modules(PROJECT / "quantize" / "target.py")}
    assert imported <= {"__future__", "dataclasses", "typing"}
    asked = [name_of(path) for path in MODULES if {"cpu_count", "platform_facts"} & set(called_names(path))]
    assert set(asked).isdisjoint({"quantize/qdq.py", "quantize/weights.py", "quantize/scales.py"})


# numpy's own code for these is chosen by the CPU, and so are the last bits of what they give.
CPU_DEPENDENT = {"exp", "log", "log1p", "log2", "log10", "expm1", "tanh", "power", "dot", "vdot", "inner"}


@pytest.mark.robustness(
    "Same bytes",
    "Every module is searched for functions whose last bits depend on the CPU's features",
    "none is used where numbers are made: exponentials and logarithms are our own, sums are in a fixed order",
)
def test_no_number_depends_on_the_features_of_the_cpu() -> None:
    found = {
        (name_of(path), node.func.attr)
        for path in MODULES
        for node in nodes_of(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "np"
        and node.func.attr in CPU_DEPENDENT
    }
    assert {
        (module, name) for module, name in found if not module.startswith("quantize/report/charts/")
    } == set()


def test_temporary_files_are_claimed() -> None:
    """Whatever is made in another way outlives a run that is killed."""
    makers = {"NamedTemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp"}
    found = {name_of(path) for path in MODULES if makers & set(called_names(path))}
    # The example's images are drawn inside of a claimed folder.
    assert found == {"calibration/claims.py", "quantize/demo_data.py"}


# What is built around the main job: it may use the rooms below, and neither the search nor the wiring.
AROUND = ("prediction", "inspection", "package", "exporting", "acquire")


@pytest.mark.parametrize("room", AROUND)
def test_the_rooms_around_the_main_job_stand_on_their_own(room: str) -> None:
    others = {f"quantize.{other}" for other in AROUND if other != room}
    forbidden = {"quantize.cli", "quantize.engine", "quantize.pipeline", "quantize.search", *others}
    found = {
        (name_of(path), name)
        for path in MODULES
        if name_of(path).startswith(f"quantize/{room}/")
        for name in imported_modules(path)
        if any(name == package or name.startswith(f"{package}.") for package in forbidden)
    }
    assert found == set()


def test_only_one_room_talks_to_the_network() -> None:
    packages = ("http", "requests", "socket", "urllib.request")
    talkers = {name for package in packages for name in importers_of(package)}
    assert {name for name in talkers if not name.startswith("quantize/acquire/")} == set()


def test_what_runs_knows_no_fuzzing_and_no_tests() -> None:
    assert importers_of("fuzz") == importers_of("tests") == importers_of("atheris") == []


@pytest.mark.parametrize("command", [["--help"], ["tune", "--help"], ["benchmark", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "quantize", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # A line reads `import time: self [us] | cumulative | name`, the name indented by its depth.
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "quantize" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_runs_code_from_data(path: Path) -> None:
    modules = {name.partition(".")[0] for name in imported_modules(path)}
    assert modules.isdisjoint({"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"})
    tree = ast.parse(path.read_text(encoding="utf-8"))
    builtins = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert builtins.isdisjoint({"compile", "eval", "exec"})
    # numpy.load(allow_pickle=...) and yaml.load without the safe loader.
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert "allow_pickle" not in keywords
    assert not re.search(r"\byaml\.(?:load|unsafe_load|full_load)\(", path.read_text(encoding="utf-8"))


def project_files() -> list[Path]:
    """The files that are, or on the next commit could be, in the repository."""
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        pytest.skip("needs a git checkout, to tell the project's files from others")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        cwd=PROJECT,
    )
    paths = [PROJECT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_modules_can_be_read_in_one_sitting() -> None:
    lines = {
        name_of(path): path.read_text(encoding="utf-8").count("\n")
        for path in project_files()
        if path.suffix == ".py"
    }
    assert {name: count for name, count in lines.items() if count > 350} == {}


# Written in pieces, so that this file does not match itself.
LEAK = re.compile(
    r"(?:^|[^A-Za-z0-9._-])/(?:"
    + "|".join(("wo" + "rk", "fa" + "rm", "ro" + "ot", "ho" + "me/[a-z]+"))
    + ")/"
    "|index" + "-url"
    "|registry" + " *= *http"
    "|^deb" + " +http",
    re.MULTILINE,
)


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("see /ro" + "ot/x", True),
        ("'/ho" + "me/ann/x'", True),
        ("--extra-index" + "-url X", True),
        ("registry" + "=https", True),
        ("deb" + " http", True),
        ("../shared/models", False),
        ("net/wo" + "rk/x", False),
        ("/usr/bin/env", False),
    ],
)
def test_the_leak_pattern_itself(text: str, leaks: bool) -> None:
    assert bool(LEAK.search(text)) is leaks


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in project_files():
        content = path.read_bytes()
        if path.suffix == ".svg" or b"\0" in content:
            continue
        match = LEAK.search(content.decode("utf-8", errors="replace"))
        if match:
            found.append(f"{name_of(path)}: {match.group().strip()}")
    assert found == []
