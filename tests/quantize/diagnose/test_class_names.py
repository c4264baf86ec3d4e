"""What the classes are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration.dataloader import DataLoader
from calibration.images import ImageSet
from calibration.transforms import build_pipeline
from quantize.diagnose.class_names import class_names
from quantize.errors import InputError


def loader(files: tuple[str, ...] = ("cat/1.png", "dog/2.png"), shift: int = 0) -> DataLoader:
    steps = {"Rescale": None, "Transpose": {"perm": [2, 0, 1]}}
    pipeline = build_pipeline({**({"LabelShift": {"label_shift": shift}} if shift else {}), **steps})
    return DataLoader(ImageSet(Path("root"), files, tuple(range(1, len(files) + 1)), "test"), pipeline)


def test_class_folders_name_the_classes_as_the_model_counts() -> None:
    assert class_names(loader(), 3) == {1: "cat", 2: "dog"}
    assert class_names(loader(shift=1), 3) == {0: "cat", 1: "dog"}


def test_a_list_that_is_given_has_to_fit(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("n01440764 tench, Tinca tinca\nplain\n")
    assert class_names(loader(), 2, given=tmp_path / "names") == {0: "tench, Tinca tinca", 1: "plain"}
    with pytest.raises(InputError, match="2 classes, but the model has 3"):
        class_names(loader(), 3, given=tmp_path / "names")


@pytest.mark.parametrize("name", ["synset.txt", "synset_words.txt"])
def test_a_list_beside_the_images_is_found_and_need_not_fit(name: str, tmp_path: Path) -> None:
    image_list = tmp_path / "val.txt"
    assert class_names(loader(), 2, image_list=image_list) == {}
    (tmp_path / name).write_text("one\ntwo\n")
    assert class_names(loader(), 2, image_list=image_list) == {0: "one", 1: "two"}
    assert class_names(loader(), 5, image_list=image_list) == {}
