"""What a model says about its making."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from quantize import provenance as module
from quantize.provenance import provenance
from tests.quantize.models import ZOO


def facts() -> dict[str, str]:
    model = ZOO["relu_chain_with_softmax"](13)
    for key, value in (("author", "someone"), ("quantize.target", "forged")):
        model.metadata_props.add(key=key, value=value)
    return provenance(model, input_sha256="aa", config_sha256="bb", target="portable")


def test_says_what_made_it_and_keeps_what_was_there() -> None:
    found = facts()
    assert found["author"] == "someone"
    assert found["quantize.target"] == "portable"
    assert (found["quantize.input_model_sha256"], found["quantize.config_sha256"]) == ("aa", "bb")
    assert found["quantize.package.onnx"] == importlib.metadata.version("onnx")
    assert found["quantize.project"].startswith("quantize-pipeline ")


def test_is_the_same_each_time() -> None:
    assert facts() == facts()


def test_a_package_that_is_not_there_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment may have `opencv-python` in place of the headless one."""

    def version(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert facts()["quantize.package.opencv-python-headless"] == "unknown"
    assert module.project_version() == "unknown"
