"""`--dataset_location` and `--label_path` where the configuration names no images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantize.config import Config
from quantize.errors import InputError
from tests.quantize.config_samples import TRANSFORM

LOADER = {"batch_size": 3, "transform": TRANSFORM}
RANDOM = {"dataset": {"dummy_v2": {"input_shape": [3]}}}
WITHOUT_IMAGES: dict[str, dict[str, Any]] = {
    "transforms only": {"evaluation": {"accuracy": {"dataloader": LOADER}}},
    "transforms of calibration": {
        "quantization": {"calibration": {"dataloader": LOADER}},
        "evaluation": None,
    },
    "random input for speed": {
        "evaluation": {"accuracy": {"dataloader": LOADER}, "performance": {"dataloader": RANDOM}}
    },
    "random input": {"evaluation": {"accuracy": {"dataloader": {**LOADER, **RANDOM}}}},
}


@pytest.mark.parametrize("content", WITHOUT_IMAGES.values(), ids=WITHOUT_IMAGES.keys())
def test_a_location_stands_in_for_a_dataset(content: dict[str, Any], tmp_path: Path) -> None:
    config = Config.from_mapping(content)
    with pytest.raises(InputError, match="dataset is missing"):
        config.evaluation_data()
    by_class, listed = config.with_data(tmp_path), config.with_data(tmp_path, Path("/labels.txt"))
    (tmp_path / "val.txt").touch()
    by_default = config.with_data(tmp_path)
    for changed, kind, image_list in (
        (by_class, "ImageFolder", None),
        (listed, "ImagenetRaw", Path("/labels.txt")),
        (by_default, "ImagenetRaw", tmp_path / "val.txt"),
    ):
        for source in (changed.calibration_data(), changed.evaluation_data(), changed.performance_data()):
            assert (source.kind, source.data_path, source.image_list) == (kind, tmp_path, image_list)
            assert list(source.transform) == list(TRANSFORM)


def test_images_of_one_side_serve_both() -> None:
    loader = {**LOADER, "dataset": {"ImageFolder": {"root": "/old"}}}
    config = Config.from_mapping({"quantization": {"calibration": {"dataloader": loader}}})
    moved = config.with_data(Path("/new"))
    assert moved.calibration_data().data_path == moved.evaluation_data().data_path == Path("/new")
    assert moved.evaluation.accuracy.dataloader.dataset is None


def test_a_kind_without_fields_does_not_count() -> None:
    dataset = {"ImagenetRaw": None, "ImageFolder": {"root": "/old"}}
    config = Config.from_mapping({"evaluation": {"accuracy": {"dataloader": {**LOADER, "dataset": dataset}}}})
    source = config.with_data(Path("/new")).evaluation_data()
    assert (source.kind, source.data_path) == ("ImageFolder", Path("/new"))


def test_labels_alone_are_not_enough() -> None:
    with pytest.raises(InputError, match=r"^--label_path l\.txt: .*pass --dataset_location DIR too$"):
        Config.from_mapping(WITHOUT_IMAGES["transforms only"]).with_data(label_path=Path("l.txt"))
