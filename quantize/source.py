"""Reads the model that a run starts from, and refuses early what could only fail late."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from calibration.transforms import build_pipeline
from quantize.config import Config
from quantize.errors import EngineError, InputError
from quantize.files import sha256_of_file
from quantize.metrics import TOP_K
from quantize.model import Signature, load_model, read_signature, require_float
from quantize.operators import Inventory, take_inventory
from quantize.prepare import prepare
from quantize.session import make_session


@dataclass(frozen=True)
class Source:
    """The input model, read and prepared.

    Attributes:
        path, sha256: the file as it was given.
        signature: what it takes and gives.
        prepared: the equivalent model that is quantized.
        inventory: the operators of `prepared`.
        warnings: entries of the configuration that mean no operator of it.
    """

    path: Path
    sha256: str
    signature: Signature
    prepared: onnx.ModelProto
    inventory: Inventory
    warnings: tuple[str, ...]


def read_source(path: Path, config: Config) -> Source:
    """Reads, checks and prepares the input model.

    Raises:
        InputError: it cannot be read, run or quantized.
        EngineError: preparing it changed what it computes.
    """
    model = load_model(path)
    require_float(model, path)
    pipeline = build_pipeline(config.calibration_data().transform)
    signature = read_signature(model, path, transposed=pipeline.layout() == "NCHW")
    _require_runnable(path)
    prepared = prepare(model, signature, image_shape=pipeline.output_shape())
    if config.criterion.metric == "top5" and signature.classes is not None and signature.classes <= TOP_K:
        raise InputError(
            f"--metric top5: {path.name} has {signature.classes} classes, so that every label is among the "
            f"best {TOP_K}; use top1"
        )
    inventory = take_inventory(prepared, config.target)
    if not inventory.weighted_count():
        raise InputError(
            f"--input_model {path}: has no Conv, Gemm or MatMul with constant fp32 weights, which int8 needs"
        )
    names = [(operator.name, operator.op_type) for operator in inventory.quantizable]
    warnings = tuple(
        f"{entry} means no operator that can be int8" for entry in config.unmatched_patterns(names)
    )
    return Source(path, sha256_of_file(path), signature, prepared, inventory, warnings)


def _require_runnable(path: Path) -> None:
    """The fp32 file is what the result is compared with, so ONNX Runtime has to run it as it is.

    Raises:
        InputError: it does not; the message has ONNX Runtime's reason.
    """
    try:
        make_session(path, threads=1)
    except EngineError as error:
        raise InputError(f"--input_model {error}; export the model again") from error
