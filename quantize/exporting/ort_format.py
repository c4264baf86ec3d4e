"""ONNX Runtime's own file format, which its reduced builds for apps read instead of ONNX.

This is what `onnxruntime.tools.convert_onnx_models_to_ort` does, style "Fixed", but at the level "extended":
the tool's own level, "all", may choose memory layouts for the processor that it runs on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import EngineError
from quantize.exporting.agreement import Agreement
from quantize.files import atomic_write_bytes, atomic_write_text, make_folder
from quantize.graph import GraphIndex
from quantize.kernels import FLOAT_WEIGHTED
from quantize.model import Signature, load_model, read_signature
from quantize.printable import printable
from quantize.scratch import temporary_folder
from quantize.session import make_session, run

# As the tool sets them: the file in ORT's format, and activations as they are in the model (uint8), whatever
# the processor that it is converted on prefers.
_CONVERSION = {"session.save_model_format": "ORT", "session.qdqisint8allowed": "0"}

_SEED = 20190113
_CHECKED_IMAGES = 8
# What stands for an open extent of an image.
_DEFAULT_EXTENT = 224


@dataclass(frozen=True)
class OrtExport:
    """What was written.

    Attributes:
        model: the `.ort` file.
        operators: the operators that a reduced build needs, for its `--include_ops_by_config`.
        agreement: with the model that it was made from.
        warnings: what its user should know.
    """

    model: Path
    operators: Path
    agreement: Agreement
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "model": str(self.model),
            "required_operators": str(self.operators),
            "agreement": self.agreement.to_json(),
            "warnings": list(self.warnings),
        }


def export_ort(path: Path, folder: Path) -> OrtExport:
    """Converts a model, runs both, and writes the `.ort` file and its list of operators.

    The bytes of two conversions differ, because ONNX Runtime numbers tensors differently each time; what
    they compute does not.

    Args:
        path: an `.onnx` classifier.
        folder: where to write; made if it does not exist.

    Raises:
        InputError: the model cannot be read, or the folder cannot be written.
        EngineError: ONNX Runtime cannot convert the model or run the result.
    """
    model = load_model(path, named="")
    signature = read_signature(model, path, named="")
    warnings: tuple[str, ...] = ()
    if any(node.op_type in FLOAT_WEIGHTED for node in model.graph.node) and not _is_quantized(
        GraphIndex(model.graph)
    ):
        warnings = (
            "a float model: ONNX Runtime lays its convolutions out for the processor when it loads .onnx, "
            "but not .ort, which is slower on x86",
        )
    make_folder(folder)
    with temporary_folder("ort") as temporary:
        made = temporary / "model.ort"  # ONNX Runtime takes UTF-8 names only
        make_session(
            path, threads=1, optimization="extended", config_entries=_CONVERSION, optimized_path=made
        )
        target = folder / f"{path.stem}.ort"
        operators = _required_operators(made, target.name)
        agreement = _agreement(path, made, signature)
        atomic_write_bytes(target, made.read_bytes())
    listed = folder / f"{path.stem}.required_operators.config"
    atomic_write_text(listed, operators)
    return OrtExport(target, listed, agreement, warnings)


def _is_quantized(index: GraphIndex) -> bool:
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in index.graph.node)


def _required_operators(path: Path, name: str) -> str:
    """The tool's own list, with the file's final name in its heading."""
    try:
        from onnxruntime.tools.ort_format_model import create_config_from_models

        # It would log on standard error that it has made a temporary file.
        logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
        listed = path.with_suffix(".config")
        create_config_from_models([path], listed, False)
        return listed.read_text(encoding="utf-8").replace(str(path), printable(name))
    except Exception as error:  # the tool's failures have no common root
        raise EngineError(f"{name}: ONNX Runtime's tool cannot list its operators: {error}") from error


def _agreement(original: Path, converted: Path, signature: Signature) -> Agreement:
    batch = _noise(signature)
    results = [
        run(
            make_session(model, threads=1),
            [signature.output_name],
            {signature.input_name: batch},
            model=path.name,
        )[0]
        for path, model in ((original, original), (converted, converted.read_bytes()))
    ]
    return Agreement.of(results[0], results[1])


def _noise(signature: Signature) -> npt.NDArray[np.float32]:
    spatial = (3, _DEFAULT_EXTENT, _DEFAULT_EXTENT)
    usual = spatial if signature.layout == "NCHW" else spatial[::-1]
    shape = [extent or default for extent, default in zip(signature.input_shape[1:], usual, strict=True)]
    images = signature.batch or _CHECKED_IMAGES
    return np.random.default_rng(_SEED).standard_normal((images, *shape)).astype(np.float32)
