"""What loading a model may cost and touch: memory, time, files, the options of the runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quantize.session import make_session
from tests.quantize.net import EXTENT
from tests.robustness.model_commands import Bench, bench, materials, refused, small_classifier
from tests.robustness.test_models_damaged import (
    cut_off,
    nested,
    spelled_numbers,
    weight_of,
)
from tests.robustness.test_models_external import point
from tests.robustness.test_models_graphs import function_bomb, loop, sparse
from tests.robustness.test_models_growth import expanded, grown

__all__ = ["bench", "materials"]  # fixtures

# Beyond what the interpreter with onnx and ONNX Runtime has mapped when it begins.
ALLOWANCE_BYTES = 1 << 30
# Loading takes seconds at most; a process that does not end is killed, and the test fails.
PATIENCE_S = 120


def row(done: str, does: str, *, times: int = 1) -> pytest.MarkDecorator:
    return pytest.mark.robustness("Models", done, does, times=times)


LIMITED = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
allowance = int(sys.argv[2])
from pathlib import Path
from quantize.errors import PipelineError
from quantize.model import load_model
from quantize.session import make_session
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + allowance,) * 2)
for name in sys.argv[3:]:
    try:
        load_model(Path(name))
        make_session(Path(name), threads=1)
        print(json.dumps("loaded"))
    except PipelineError as error:
        print(json.dumps(str(error)))
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")


def limited(project_root: Path, paths: list[Path], allowance_bytes: int = ALLOWANCE_BYTES) -> list[Any]:
    """What loading each file came to in a process of bounded memory, and the most memory it had."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(project_root), str(allowance_bytes), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def terabytes() -> onnx.ModelProto:
    model = small_classifier()
    model.graph.initializer.append(weight_of([1 << 20, 1 << 20]))
    return model


BOMBS = {
    "a weight that claims terabytes": terabytes,
    "ConstantOfShape of terabytes": lambda: grown("ConstantOfShape", [1 << 20, 1 << 20]),
    "Expand to terabytes": expanded,
    "functions of 2^40 operators": function_bomb,
    "a Loop of 2^62 rounds": loop,
    "a sparse weight of 2^60 numbers": sparse,
    "70 MB of numbers spelled one by one": spelled_numbers,
    "graphs in graphs": nested,
    "a file cut off": cut_off,
}


@needs_proc
@row(
    "Every kind of bomb, loaded in a process that may take 1 GiB more than it has",
    "each is refused in a line of ours; the process ends in time",
    times=len(BOMBS),
)
def test_bombs_within_bounded_memory(project_root: Path, tmp_path: Path) -> None:
    paths = []
    for position, make in enumerate(BOMBS.values()):
        made = make()
        path = tmp_path / f"bomb{position}.onnx"
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
        paths.append(path)
    *found, peak_bytes = limited(project_root, paths)
    for name, path, said in zip(BOMBS, paths, found, strict=True):
        assert str(path) in said, (name, said)
    assert peak_bytes < 2 * ALLOWANCE_BYTES


def sparse_file(path: Path, size_bytes: int, content: bytes = b"") -> None:
    """A file of any size that takes no room on the disk."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.truncate(size_bytes)


@row(
    "An .onnx file of more than 2 GiB (sparse, 5 GiB)",
    "every command refuses it by its size, without reading it",
)
def test_a_file_over_2_gib(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    sparse_file(bench.model, 5 << 30, small_classifier().SerializeToString())
    refused(bench, capsys, "takes 5368709120 bytes; one ONNX file holds 2 GiB at most")


def over_2_gib(folder: Path) -> onnx.ModelProto:
    """A small file with 3 GiB of weights beside it."""
    model = small_classifier()
    sparse_file(folder / "weights.bin", 3 << 30)
    for part in range(3):
        tensor = TensorProto(name=f"part{part}", dims=[1 << 28], data_type=TensorProto.FLOAT)
        point(tensor, "weights.bin", offset=str(part << 30), length=str(1 << 30))
        model.graph.initializer.append(tensor)
    return model


@row(
    "A small .onnx with 3 GiB of weights beside it",
    "every command refuses it by the sum of its weights, before one of them is read",
)
def test_external_data_over_2_gib(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.put(over_2_gib(bench.folder))
    refused(bench, capsys, "its weights take 3221225472 bytes")


@row(
    "Ten thousand weights that all name the same 1 MB beside the model: 10 GB once read",
    "it is refused by their sum, before one of them is read",
)
def test_one_file_named_many_times(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_classifier()
    (bench.folder / "weights.bin").write_bytes(bytes(1 << 20))
    for part in range(10_000):
        tensor = TensorProto(name=f"part{part}", dims=[1 << 18], data_type=TensorProto.FLOAT)
        point(tensor, "weights.bin")
        model.graph.initializer.append(tensor)
    bench.put(model)
    refused(bench, capsys, "its weights take 10485760000 bytes", commands=("evaluate", "tune"))


@needs_proc
@row(
    "Files and weights of more than 2 GiB, in a process that may take 256 MB more than it has",
    "each is refused by its size",
    times=2,
)
def test_sizes_cost_no_memory(project_root: Path, tmp_path: Path) -> None:
    sparse_file(tmp_path / "large.onnx", 5 << 30)
    model = over_2_gib(tmp_path)
    (tmp_path / "small.onnx").write_bytes(model.SerializeToString())
    large, small, _ = limited(
        project_root, [tmp_path / "large.onnx", tmp_path / "small.onnx"], allowance_bytes=1 << 28
    )
    assert "takes 5368709120 bytes" in large
    assert "its weights take 3221225472 bytes" in small


AUDITED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import quantize.session
from quantize.errors import PipelineError
from quantize.loading import rehearsal
from quantize.model import load_model
from quantize.session import make_session
import onnx
onnx.load(sys.argv[2])  # whatever is imported late is imported by now
rehearsal.is_needed = lambda: False  # with older versions, what is done here is first done in a child
seen = []
def hook(event, arguments):
    if event == "open" and not isinstance(arguments[0], int):
        seen.append(["open", os.fsdecode(arguments[0])])
    elif event.startswith(("subprocess.", "os.exec", "os.system", "os.fork", "os.spawn", "socket.",
                           "ctypes.dlopen", "import", "exec", "compile", "pickle.")):
        seen.append([event, str(arguments[0])])
sys.addaudithook(hook)
for name in sys.argv[3:]:
    try:
        load_model(Path(name))
        make_session(Path(name), threads=1)
    except PipelineError:
        pass
print(json.dumps(seen))
"""


@row(
    "What Python opens, imports and executes while models are loaded, listed by an audit hook",
    "the model and the files below its folder, and nothing else; no import, no process, no network",
    times=4,
)
def test_audited(project_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    plain = tmp_path / "plain.onnx"
    onnx.save(small_classifier(), plain)
    names = []
    for place in ("sub/weights.bin", "../weights.bin", str(tmp_path / "weights.bin"), "link.bin"):
        model = small_classifier()
        content = bytes(model.graph.initializer[0].raw_data)
        for target in (folder / "sub" / "weights.bin", tmp_path / "weights.bin"):
            target.write_bytes(content)
        point(model.graph.initializer[0], place)
        path = folder / f"net{len(names)}.onnx"
        path.write_bytes(model.SerializeToString())
        names.append(str(path))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, str(project_root), str(plain), *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = {tuple(event) for event in json.loads(done.stdout)}
    assert {kind for kind, _ in seen} == {"open"}
    # Parts of a path are opened one from the other, so they are listed by their own names; a link is tried,
    # and the system refuses to follow it.
    assert {name for _, name in seen} == {*names, str(folder), "sub", "weights.bin", "link.bin"}


def profiling() -> onnx.ModelProto:
    model = small_classifier()
    options = {"session_options": {"enable_profiling": 1, "intra_op_num_threads": 3}}
    model.metadata_props.add(key="ort_config", value=json.dumps(options))
    return model


@row(
    "Session options in the model's metadata (ort_config) that ask for a profile to be written",
    "they are ignored, also where the environment asks ONNX Runtime to obey them",
)
def test_options_in_the_metadata_are_ignored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    session = make_session(bench.put(profiling()), threads=1)
    assert session.get_session_options().intra_op_num_threads == 1
    del session
    assert list(Path.cwd().iterdir()) == []


OBEYED = """
import os, sys
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(len(os.listdir(".")))
"""


def test_options_in_the_metadata_would_be_obeyed(tmp_path: Path) -> None:
    """The control of the test above: ONNX Runtime by itself writes a profile where it was started."""
    (tmp_path / "net.onnx").write_bytes(profiling().SerializeToString())
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", OBEYED, str(tmp_path / "net.onnx")],
        env={**os.environ, "ORT_LOAD_CONFIG_FROM_MODEL": "1"},
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert int(done.stdout) == 1


@row("A model called .json, .txt or .ort", "it is read as what it is, ONNX, whatever its name says", times=3)
@pytest.mark.parametrize("suffix", [".json", ".textproto", ".ort"])
def test_the_name_does_not_choose_the_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(small_classifier().SerializeToString())
    session = make_session(path, threads=1)
    image = np.zeros((1, 3, EXTENT, EXTENT), np.float32)
    assert session.run(None, {"image": image})[0].shape == (1, 5)
