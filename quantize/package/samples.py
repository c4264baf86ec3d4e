"""The sample input of a package and what the model makes of it, as the `.pb` files of ONNX's test runner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from calibration.decode import load_image
from quantize.errors import EngineError, InputError
from quantize.graph import GraphIndex
from quantize.kernels import FLOAT_WEIGHTED, INTEGER_WEIGHTED
from quantize.model import Signature
from quantize.preprocessing import Preprocessing
from quantize.session import make_session, run

_SEED = 20190113


@dataclass(frozen=True, eq=False)
class Sample:
    """A model's input and its own output on it; `source` says where the input is from."""

    image: npt.NDArray[np.float32]
    scores: npt.NDArray[Any]
    source: str

    def files(self, signature: Signature) -> dict[str, bytes]:
        """Names within a test data set → content."""
        return {
            "input_0.pb": _tensor(self.image, signature.input_name),
            "output_0.pb": _tensor(self.scores, signature.output_name),
        }


def make_sample(
    content: bytes, signature: Signature, *, image: Path | None, preprocessing: Preprocessing | None
) -> Sample:
    """Runs a model on one image, or on seeded noise.

    Args:
        content: the model.
        signature: of the model.
        image: an image file; noise without one.
        preprocessing: for the image.

    Raises:
        InputError: the image cannot be read or does not fit, or the model leaves its size open.
        EngineError: the model does not run.
    """
    if image is not None and preprocessing is not None:
        one = _photograph(image, preprocessing, signature.input_shape[1:])
        batch, source = np.repeat(one[None], signature.batch or 1, axis=0), f"the photograph {image.name}"
    else:
        batch, source = _noise(signature), f"normal noise (numpy RandomState({_SEED}))"
    session = make_session(content, threads=1)
    (scores,) = run(session, [signature.output_name], {signature.input_name: batch})
    return Sample(np.ascontiguousarray(batch), scores, source)


def check_sample(files: dict[str, bytes], name: str, signature: Signature) -> None:
    """Runs the model of a finished package on the input in it, and compares with the output in it.

    Raises:
        EngineError: they differ in a single bit: same file, same runtime, same machine must give the same.
    """
    folder = f"{name}/test_data_set_0"
    image, scores = (
        numpy_helper.to_array(onnx.TensorProto.FromString(files[f"{folder}/{kind}_0.pb"]))
        for kind in ("input", "output")
    )
    session = make_session(files[f"{name}/{name}.onnx"], threads=1)
    (again,) = run(session, [signature.output_name], {signature.input_name: image})
    if again.dtype != scores.dtype or again.shape != scores.shape or again.tobytes() != scores.tobytes():
        raise EngineError(f"{name}: the packaged model does not reproduce its packaged output")


def features_port(model: onnx.ModelProto, sample: Sample, signature: Signature) -> dict[str, Any] | None:
    """Name, shape and type of what the last operator with weights reads: the features of the image.

    Returns:
        None where there is no such operator.
    """
    weighted = [node for node in model.graph.node if node.op_type in FLOAT_WEIGHTED | INTEGER_WEIGHTED]
    if not weighted or weighted[-1].input[0] in GraphIndex(model.graph).initializers:
        return None
    name = weighted[-1].input[0]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.ValueInfoProto(name=name))
    session = make_session(shown, threads=1)
    (value,) = run(session, [name], {signature.input_name: sample.image})
    kind = next(port.type for port in session.get_outputs() if port.name == name)
    return {"name": name, "shape": list(value.shape), "type": kind}


def _photograph(
    path: Path, preprocessing: Preprocessing, wanted: tuple[int | None, ...]
) -> npt.NDArray[np.float32]:
    """One image as the model takes it, without the batch."""
    image = load_image(path, exif_orientation=preprocessing.exif_orientation)
    made: npt.NDArray[Any] = preprocessing.pipeline(image, 0)[0]
    if made.ndim != len(wanted) or any(w not in (None, m) for m, w in zip(made.shape, wanted, strict=False)):
        shapes = ("x".join("?" if size is None else str(size) for size in s) for s in (made.shape, wanted))
        raise InputError(
            f"--image {path}: comes out of the transforms as {next(shapes)}, but the model takes "
            f"{next(shapes)}; give the --config whose preprocessing fits, or another image"
        )
    return made.astype(np.float32)


def _noise(signature: Signature) -> npt.NDArray[np.float32]:
    """RandomState, unlike its successor, promises the same numbers in every version of numpy."""
    shape = (signature.batch or 1, *signature.input_shape[1:])
    if any(extent is None for extent in shape):
        raise InputError(
            f"the model leaves the size of its input {signature.input_name!r} open; give an --image, and the "
            "--config whose preprocessing fits"
        )
    sizes = tuple(extent or 1 for extent in shape)
    return np.random.RandomState(_SEED).standard_normal(sizes).astype(np.float32)


def _tensor(values: npt.NDArray[Any], name: str) -> bytes:
    return bytes(numpy_helper.from_array(values, name).SerializeToString(deterministic=True))
