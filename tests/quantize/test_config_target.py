"""`quantization.target`: which formats it allows, and what it changes in the rest of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.config import Config
from quantize.errors import InputError
from quantize.target import PORTABLE, TARGETS, TENSORRT
from tests.quantize.config_samples import nested, refused, with_images

FIELD = "quantization.target"


def test_portable_is_the_default() -> None:
    config = Config.from_mapping({})
    assert config.target is PORTABLE
    assert config.formats == ("QOperator", "QDQ")
    assert config.to_dict()["quantization"]["target"] == "portable"


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_can_be_named(name: str) -> None:
    config = Config.from_mapping(nested(FIELD, name))
    assert config.target.name == name
    assert config.unused_fields == ()
    assert set(config.formats) == set(config.target.formats)
    assert f'"target":"{name}"' in config.to_canonical_json()


def test_an_unknown_target_is_named_with_the_nearest() -> None:
    assert "quantization.target: 'tensorr' is no target; did you mean 'tensorrt'" in refused(
        nested(FIELD, "tensorr")
    )
    assert "quantization.target" in refused(nested(FIELD, 7))
    assert "quantization.target" in refused(nested(FIELD, ["vnni"]))


@pytest.mark.parametrize("name", ["tensorrt", "qnn"])
def test_the_default_of_both_formats_becomes_qdq_with_a_note(name: str) -> None:
    for framework in ("onnxrt_qlinearops", "onnxrt_qdq"):
        config = Config.from_mapping({"model": {"framework": framework}, **nested(FIELD, name)})
        assert config.formats == ("QDQ",)
        assert config.primary_format == "QDQ"
        assert config.warnings == (f"target {name} reads QDQ only: no other format is written",)


@pytest.mark.parametrize("name", ["tensorrt", "qnn"])
def test_asking_for_the_other_format_is_refused_with_the_cure(name: str) -> None:
    content = {"quantization": {"target": name, "quant_format": "QOperator"}}
    message = refused(content)
    assert f"quant_format: QOperator and target: {name} contradict each other" in message
    assert "use quant_format: QDQ, or target: portable" in message
    asked = Config.from_mapping({"quantization": {"target": name, "quant_format": "QDQ"}})
    assert asked.formats == ("QDQ",)
    assert asked.warnings == ()


def test_flags_contradict_the_file_too() -> None:
    config = Config.from_mapping({"quantization": {"quant_format": "QOperator"}})
    with pytest.raises(InputError, match="reads QDQ only"):
        config.with_overrides({FIELD: "tensorrt"}, flags={FIELD: "--target"})


def test_types_and_schemes_are_those_of_the_target() -> None:
    signed = {"activation": {"dtype": ["int8"], "scheme": ["sym"]}}
    unsigned = {"activation": {"dtype": ["uint8"], "scheme": ["asym"]}}
    for name, fitting, other in (("portable", unsigned, signed), ("tensorrt", signed, unsigned)):
        made = [
            Config.from_mapping({"quantization": {"target": name, "quant_format": "QDQ", "model_wise": wise}})
            for wise in (fitting, other)
        ]
        assert made[0].unused_fields == ()
        assert made[1].unused_fields == (
            "quantization.model_wise.activation.dtype",
            "quantization.model_wise.activation.scheme",
        )
    assert TENSORRT.signed_activations


def test_the_hash_knows_the_target_and_no_machine(tmp_path: Path) -> None:
    hashes = {
        name: Config.from_mapping(with_images(str(tmp_path), **nested(FIELD, name))).config_hash()
        for name in TARGETS
    }
    assert len(set(hashes.values())) == len(TARGETS)
