"""Model files as they were written: each is read once, and everything is made of that which its bytes tell.

What counts is in the file, so that it is read again and nothing is taken from memory; but once is enough.
Reading a file and checking it takes as long as building a session of it does, and both were done up to six
times for each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnxruntime import InferenceSession

from quantize.files import sha256_of_file
from quantize.judged import content_key
from quantize.kernels import Coverage, declared_coverage, graph_coverage, optimized_model
from quantize.loading import external_files, read_model
from quantize.parallel import in_order
from quantize.portability import EXACT_KERNELS, PairBound
from quantize.saturation import bound_of
from quantize.session import make_session


@dataclass(frozen=True, eq=False)
class Written:
    """One file.

    Attributes:
        path: where it is.
        size_bytes: of the file and of the external data it refers to.
        sha256: of the file.
        session: runs it, with one thread.
        coverage: which kernels ONNX Runtime runs of it.
        exact: runs it in integer arithmetic that never saturates; None of the fp32 model.
        bound: what its weights say about saturation.
        declared: what it asks to be run in integers, where that was asked for.
        content: what tells it from others, metadata aside; empty of the fp32 model.
    """

    path: Path
    size_bytes: int
    sha256: str
    session: InferenceSession
    coverage: Coverage
    exact: InferenceSession | None = None
    bound: PairBound = field(default_factory=PairBound)
    declared: Coverage | None = None
    content: str = ""


def read_back(
    paths: Mapping[str, Path], *, integer: Collection[str], declared: bool, workers: int
) -> dict[str, Written]:
    """Reads files and builds what is measured.

    Args:
        paths: name -> file.
        integer: names of those that are int8 models.
        declared: whether it is asked what they declare.
        workers: files under way at once; ONNX Runtime builds sessions without the interpreter.

    Raises:
        InputError: a file is missing or cannot be read as a model.
        EngineError: ONNX Runtime cannot load one.
    """

    def one(name: str) -> Written:
        return _integer(paths[name], declared=declared) if name in integer else _plain(paths[name])

    return dict(zip(paths, in_order(one, paths, workers=workers), strict=True))


def size_bytes(path: Path) -> int:
    """Bytes of a model: its file, and the files that its initializers refer to."""
    return sum(file.stat().st_size for file in (path, *external_files(path)))


def _plain(path: Path) -> Written:
    model = read_model(path)
    coverage = graph_coverage(optimized_model(model, label=str(path)).graph)
    return Written(path, size_bytes(path), sha256_of_file(path), _session(model, path), coverage)


def _integer(path: Path, *, declared: bool) -> Written:
    model = read_model(path)
    fused = optimized_model(model, label=str(path))
    return Written(
        path,
        size_bytes(path),
        sha256_of_file(path),
        _session(model, path),
        graph_coverage(fused.graph),
        exact=_session(model, path, EXACT_KERNELS),
        bound=bound_of(model, fused),
        declared=declared_coverage(model.graph) if declared else None,
        content=content_key(model),
    )


def _session(
    model: onnx.ModelProto, path: Path, config_entries: Mapping[str, str] | None = None
) -> InferenceSession:
    return make_session(model, threads=1, config_entries=config_entries, label=str(path))
