"""A model's entry in `ONNX_HUB_MANIFEST.json`, by which ONNX's hub client finds it (onnx/docs/Hub.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from quantize.errors import InputError
from quantize.graph import GraphIndex, element_type, opset_of

MANIFEST = "ONNX_HUB_MANIFEST.json"


def manifest_entry(
    model: onnx.ModelProto,
    content: bytes,
    archive: bytes,
    *,
    title: str,
    name: str,
    zoo_folder: str,
    onnx_version: str,
    tags: Sequence[str],
    features: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """One entry, its fields in the order of the published manifest.

    Args:
        model: to be described.
        content: its bytes.
        archive: the bytes of its package.
        title: what people call it.
        name: of the file, without its suffix.
        zoo_folder: of the model inside the zoo.
        onnx_version: of the onnx package that wrote it.
        tags: for people who look for a kind of model.
        features: the port before the classifier, None without.
    """
    initializers = GraphIndex(model.graph).initializers
    inputs = [value for value in model.graph.input if value.name not in initializers]
    extra = {} if features is None else {"extra_ports": {"features": [dict(features)]}}
    return {
        "model": title,
        "model_path": f"{zoo_folder}/model/{name}.onnx",
        "onnx_version": onnx_version,
        "opset_version": opset_of(model),
        "metadata": {
            "model_sha": hashlib.sha256(content).hexdigest(),
            "model_bytes": len(content),
            "tags": list(tags),
            "io_ports": {
                "inputs": [_port(value) for value in inputs],
                "outputs": [_port(value) for value in model.graph.output],
            },
            **extra,
            "model_with_data_path": f"{zoo_folder}/model/{name}.tar.gz",
            "model_with_data_sha": hashlib.sha256(archive).hexdigest(),
            "model_with_data_bytes": len(archive),
        },
    }


def merged(path: Path, entries: Sequence[Mapping[str, Any]]) -> str:
    """The text of a manifest with new entries; those of the same model and opset are replaced.

    Raises:
        InputError: the file is there, and is no manifest.
    """
    known: list[dict[str, Any]] = []
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            keys = [(entry["model"], entry["opset_version"]) for entry in known]
            if not isinstance(known, list) or not all(isinstance(entry, dict) for entry in known):
                raise TypeError("no list of objects")
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{path}: is not a manifest of models; move it away") from error
    else:
        keys = []
    for entry in entries:
        key = (entry["model"], entry["opset_version"])
        if key in keys:
            known[keys.index(key)] = dict(entry)
        else:
            known.append(dict(entry))
            keys.append(key)
    return json.dumps(known, indent=4) + "\n"


def _port(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"unk__{position}"
        for position, dim in enumerate(tensor.shape.dim)
    ]
    kind = element_type(tensor.elem_type).lower()
    return {"name": value.name, "shape": shape, "type": f"tensor({kind})"}
