"""The only builder of inference sessions, and the only place that runs a batch through one.

Every setting that could make two sessions of the same model differ is fixed here, so that figures taken by
different rooms of the pipeline can be compared.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from calibration.errors import LIMITS
from quantize.errors import EngineError, InputError, PipelineError
from quantize.loading import read_model
from quantize.loading.limits import PROTOBUF_LIMIT_BYTES

Optimization = Literal["all", "extended", "basic", "none"]

# ONNX Runtime takes session options out of a model's metadata (`ort_config`: threads, files to write profiles
# to) where this variable of the environment says so (core/session/inference_session_utils.h).
_OPTIONS_FROM_MODEL = "ORT_LOAD_CONFIG_FROM_MODEL"

# Errors arrive as exceptions. Logged as well, they would bring the model's names to the terminal as they are.
_LOG_FATAL_ONLY = 4
_MESSAGE_LIMIT_CHARACTERS = 300

# What it says of EMFILE, whose text it does not ask the system for.
_TOO_MANY_FILES = "SystemError : 24"

# By how much an optimized graph may be larger than the model that it is made of.
_SLACK_BYTES = 1 << 16

_LEVELS: Mapping[Optimization, ort.GraphOptimizationLevel] = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_FLOAT_TYPES: Mapping[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


def make_session(
    model: str | Path | bytes | onnx.ModelProto,
    *,
    threads: int,
    optimization: Optimization = "all",
    spinning: bool = False,
    config_entries: Mapping[str, str] | None = None,
    optimized_path: Path | None = None,
    profile_prefix: Path | None = None,
    label: str | None = None,
) -> ort.InferenceSession:
    """Build a deterministic CPU session.

    ONNX Runtime never sees the file: it gets bytes that refer to no other, and no address in memory, and the
    options that are given here and nowhere else.

    Threads do not spin by default: the waiting threads of several sessions in one process take the cores away
    from the one that works. Operators run one after another; only the inside of an operator is parallel.

    Args:
        model: a file, which is read by `read_model`; or the bytes of one without external data, or a model in
            memory (under 2 GiB, the same).
        threads: threads inside an operator, at least 1.
        optimization: how far ONNX Runtime may rewrite the graph.
        spinning: let waiting threads spin; faster for a session that has the machine to itself.
        config_entries: further session configuration, e.g. `{"session.x64quantprecision": "1"}`.
        optimized_path: where ONNX Runtime writes the graph as it will run it.
        profile_prefix: begin of the name of the file that it writes the time of every operator to, when
            `end_profiling` of the session is called.
        label: what to call the model in messages, if not by its path.

    Raises:
        InputError: the file cannot be read as a model, or `threads` is less than 1.
        EngineError: ONNX Runtime cannot load the model; the cause is chained.
        PipelineError: the system's limits of open files or of their sizes forbid it.
    """
    if threads < 1:
        raise InputError(f"threads: {threads} is too few; give 1 or more")
    label, source = _source(model, label)
    os.environ.pop(_OPTIONS_FROM_MODEL, None)
    options = _options(threads, optimization, spinning, config_entries or {}, optimized_path)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    try:
        # The fallback would only print on standard output, and try the same again.
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no root below Exception
        if optimized_path is not None:
            _check_room(optimized_path.parent, len(source), error)
        message = f"{label}: ONNX Runtime cannot load it: {_one_line(error)}"
        if _TOO_MANY_FILES in str(error):  # no fault of the model's
            raise PipelineError(f"{message}; {LIMITS[errno.EMFILE]}") from error
        raise EngineError(message) from error


def _check_room(folder: Path, size_bytes: int, error: Exception) -> None:
    """Says it where a model would find no room; ONNX Runtime only says that it could not write it."""
    if shutil.disk_usage(folder).free < size_bytes:
        raise EngineError(
            f"no space left for temporary files in {folder}; free some, or set TMPDIR to another folder"
        ) from error
    largest_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The optimized graph is as large as the model, but for a few names and constants.
    if largest_bytes != resource.RLIM_INFINITY and largest_bytes < size_bytes + _SLACK_BYTES:
        raise PipelineError(
            f"no file may be larger than {largest_bytes} bytes, too few for a temporary copy of the model; "
            f"{LIMITS[errno.EFBIG]}"
        ) from error


def _options(
    threads: int,
    optimization: Optimization,
    spinning: bool,
    config_entries: Mapping[str, str],
    optimized_path: Path | None,
) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _LEVELS[optimization]
    options.log_severity_level = _LOG_FATAL_ONLY
    options.use_deterministic_compute = True
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "1" if spinning else "0")
    for key, value in config_entries.items():
        options.add_session_config_entry(key, value)
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    return options


def _source(model: str | Path | bytes | onnx.ModelProto, label: str | None) -> tuple[str, bytes]:
    """What to call the model in messages, and what ONNX Runtime wants to be given."""
    if isinstance(model, str | Path):
        return label or str(model), read_model(Path(model)).SerializeToString()
    called = label or "model in memory"
    if isinstance(model, bytes):
        return called, model
    size_bytes = model.ByteSize()
    if size_bytes > PROTOBUF_LIMIT_BYTES:
        raise EngineError(f"{called}: {size_bytes} bytes is more than a protobuf message can hold (2 GiB)")
    return called, model.SerializeToString()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MESSAGE_LIMIT_CHARACTERS else text[: _MESSAGE_LIMIT_CHARACTERS - 1] + "…"


def run(
    session: ort.InferenceSession,
    names: Sequence[str],
    feeds: Mapping[str, npt.NDArray[Any]],
    *,
    model: str = "model",
) -> list[npt.NDArray[Any]]:
    """Runs a session as it is.

    Args:
        session: any model.
        names: of the outputs.
        feeds: input name -> array.
        model: what to call it in messages.

    Raises:
        EngineError: ONNX Runtime failed; the cause is chained.
    """
    try:
        return [np.asarray(value) for value in session.run(list(names), dict(feeds))]
    except Exception as error:  # ONNX Runtime's exceptions share no root below Exception
        raise EngineError(f"{model}: ONNX Runtime failed on a batch: {_one_line(error)}") from error


def input_shape(session: ort.InferenceSession) -> tuple[int | None, ...]:
    """The shape of the image input; None where the model leaves a dimension open."""
    return tuple(size if isinstance(size, int) and size > 0 else None for size in _image_input(session).shape)


def _image_input(session: ort.InferenceSession) -> ort.NodeArg:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs) or "none"
        raise InputError(f"model inputs: {names}; give a classifier with exactly one image input")
    return inputs[0]


def outputs(
    session: ort.InferenceSession,
    batch: npt.NDArray[np.float32],
    *,
    output_name: str | None = None,
    model: str = "model",
) -> npt.NDArray[np.floating[Any]]:
    """Run a batch of any size, also through a model whose batch size is fixed.

    A fixed batch of B runs ceil(N / B) times; the last chunk is filled up with copies of its last image,
    whose results are dropped.

    Args:
        session: a classifier with one image input.
        batch: images as the transforms made them, [N, ...] float32, N at least 1.
        output_name: which output; the first by default.
        model: what to call the model in messages.

    Returns:
        Logits (or probabilities, if the model ends so), [N, classes], in the model's own float type.

    Raises:
        InputError: the images do not have the shape or the model the type that the other side needs.
        EngineError: ONNX Runtime failed, or the output is not one row of numbers per image.
    """
    image_input = _image_input(session)
    shape = input_shape(session)
    _check_shape(batch.shape, shape, image_input.name, model)
    if image_input.type not in _FLOAT_TYPES:
        raise InputError(
            f"{model}: input {image_input.name!r} is {image_input.type}; only float images are supported"
        )
    images = batch.astype(_FLOAT_TYPES[image_input.type], copy=False)
    names = [output_name or session.get_outputs()[0].name]
    size = shape[0] or len(images)
    rows: list[npt.NDArray[np.floating[Any]]] = []
    for start in range(0, len(images), size):
        chunk = images[start : start + size]
        filled = (
            chunk
            if len(chunk) == size
            else np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk), 0)])
        )
        (result,) = run(session, names, {image_input.name: np.ascontiguousarray(filled)}, model=model)
        rows.append(_flatten(result, size, model)[: len(chunk)])
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _check_shape(images: tuple[int, ...], wanted: tuple[int | None, ...], name: str, model: str) -> None:
    if images and images[0] == 0:
        raise InputError(f"{model}: the batch is empty; check the image list and the data path")
    # Dimension 0 is the batch, which `outputs` adapts.
    fits = len(images) == len(wanted) and all(
        want is None or have == want for have, want in zip(images[1:], wanted[1:], strict=False)
    )
    if not fits:
        raise InputError(
            f"transforms give images of shape {_shape(images[1:])}, but input {name!r} of {model} wants "
            f"{_shape(wanted[1:])}; change the sizes (Resize, CenterCrop) or the order of axes (Transpose) "
            "in the configuration's transform section"
        )


def _shape(sizes: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in sizes) + "]"


def _flatten(result: npt.NDArray[np.floating[Any]], images: int, model: str) -> npt.NDArray[np.floating[Any]]:
    """[N, C], [N, C, 1, 1] or [N, 1, 1, C] → [N, C]."""
    per_image = result.shape[1:]
    one_row = result.ndim >= 2 and result.shape[0] == images and max(per_image) == int(np.prod(per_image))
    if not one_row or not np.issubdtype(result.dtype, np.floating):
        # Where the model declares its scores, `read_signature` has looked; what is made here keeps them.
        raise InputError(
            f"{model}: expected float output [{images}, classes], got {result.dtype} {list(result.shape)}; "
            "only classifiers are supported: give one whose only output is a row of scores for each image"
        )
    return result.reshape(images, -1)
