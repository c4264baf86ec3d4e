"""What a model says about its own making, in its metadata."""

from __future__ import annotations

import importlib.metadata

import onnx

PROJECT = "quantize-pipeline"

# Versions of these decide the integers in a model.
_PACKAGES = ("neural-compressor", "numpy", "onnx", "onnxruntime", "opencv-python-headless", "pillow")


def provenance(
    model: onnx.ModelProto, *, input_sha256: str, config_sha256: str, target: str
) -> dict[str, str]:
    """Returns the metadata of a result: what the model carried already, and ours under `quantize.`.

    Nothing in it depends on the time, the place or the machine, so that equal runs give equal bytes.
    """
    kept = {entry.key: entry.value for entry in model.metadata_props}
    ours = {
        "quantize.project": f"{PROJECT} {project_version()}",
        "quantize.input_model_sha256": input_sha256,
        "quantize.config_sha256": config_sha256,
        "quantize.target": target,
    }
    return kept | ours | {f"quantize.package.{name}": _version(name) for name in _PACKAGES}


def project_version() -> str:
    """The installed version of this project; "unknown" where its checkout runs without being installed."""
    return _version(PROJECT)


def _version(package: str) -> str:
    """A package may be there under another name (`opencv-python` for the headless one), or not at all."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
