from __future__ import annotations

from pathlib import Path

import pytest

from calibration.transforms import build_pipeline
from quantize.config import load_config
from quantize.errors import InputError
from quantize.preprocessing import read_preprocessing

IMAGENET = (None, 3, 224, 224)


def test_imagenet_models_have_a_default_and_it_says_so() -> None:
    found = read_preprocessing(None, IMAGENET)
    settings = load_config("mobilenetv2.yaml").settings
    transform = settings.evaluation.accuracy.dataloader.transform
    assert transform is not None
    assert found.pipeline == build_pipeline(transform)
    assert found.assumed
    assert "no --config" in found.note
    assert "mobilenetv2.yaml" in found.note


def test_other_models_have_none() -> None:
    with pytest.raises(InputError, match="--config is missing: the model takes Nx3x64x64"):
        read_preprocessing(None, (None, 3, 64, 64))


def test_placeholders_do_not_matter_and_labels_are_not_shifted(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        """
quantization:
  calibration:
    dataloader:
      dataset: {ImageFolder: {root: <DIR>, exif_orientation: false}}
      transform: {CenterCrop: {size: 8}, LabelShift: {label_shift: 1}, Rescale: {}}
""",
        encoding="utf-8",
    )
    found = read_preprocessing(path, (1, 8, 8, 3))
    assert [type(step).__name__ for step in found.pipeline.steps] == ["CenterCrop", "Rescale"]
    assert not found.exif_orientation
    assert not found.assumed
    assert found.source == path


def test_a_configuration_without_transforms(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: {name: x}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"transform is missing"):
        read_preprocessing(path, IMAGENET)
