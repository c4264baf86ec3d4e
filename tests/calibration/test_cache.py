"""Pixels that are remembered are the pixels of the file as it is now."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibration import prepared
from calibration.cache import default_folder, image_key
from calibration.dataloader import DataLoader
from calibration.decode import decoded, load_image
from calibration.errors import InputError
from calibration.images import ImageSet
from calibration.scratch import Scratch
from calibration.store import Store
from calibration.transforms import build_pipeline

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMALIZE = {"mean": MEAN, "std": STD}
CHW = {"perm": [2, 0, 1]}

# Name -> a configuration's transforms; every kind of cut between geometry and values.
PIPELINES: dict[str, Mapping[str, Any]] = {
    "zoo": {
        "ResizeShortest": {"size": 20},
        "CenterCrop": {"size": 16},
        "Rescale": None,
        "Normalize": NORMALIZE,
        "Transpose": CHW,
        "Cast": {"dtype": "float32"},
    },
    "2021, resized as floats": {
        "Rescale": None,
        "Resize": {"size": 20},
        "CenterCrop": {"size": 16},
        "Normalize": NORMALIZE,
        "Transpose": CHW,
    },
    "resized as 8 bits": {"Resize": {"size": [20, 18]}, "CenterCrop": {"size": 16}, "Rescale": None},
    "normalized behind the transposition": {
        "CenterCrop": {"size": 16},
        "Transpose": CHW,
        "Normalize": NORMALIZE,
    },
    "one mean": {"CenterCrop": {"size": 16}, "Normalize": {"mean": 127.5, "std": 58}, "Transpose": CHW},
    "width first": {"CenterCrop": {"size": [16, 12]}, "Transpose": {"perm": [1, 0, 2]}, "Rescale": None},
    "three wide": {"CenterCrop": {"size": [16, 3]}, "Transpose": CHW, "Normalize": NORMALIZE},
    "labels shifted": {"LabelShift": {"label_shift": 1}, "CenterCrop": {"size": 16}, "Rescale": None},
    "inc": {"ResizeCropImagenet": {"height": 16, "width": 16, "resize_side": 20}},
    "bilinear": {"BilinearImagenet": {"height": 16, "width": 16}},
}


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(3)
    names = []
    for index, (height, width) in enumerate([(24, 31), (40, 24), (24, 24), (33, 50), (25, 70)]):
        name = f"{index}.{'png' if index % 2 else 'jpg'}"
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        names.append(name)
    return ImageSet(folder, tuple(names), (5, 6, 7, 8, 9), "test")


def store_in(folder: Path) -> Store:
    return Store(folder, limit_bytes=10**8, warn=pytest.fail)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_path_gives_the_reference_bit_for_bit(images: ImageSet, tmp_path: Path, name: str) -> None:
    pipeline = build_pipeline(PIPELINES[name])
    expected = [pipeline(load_image(images.path(i)), images.labels[i]) for i in range(len(images))]
    store = store_in(tmp_path / "cache")
    loaders = {
        "without": DataLoader(images, pipeline, batch_size=2),
        "cold": DataLoader(images, pipeline, batch_size=2, store=store),
        "warm": DataLoader(images, pipeline, batch_size=2, store=store),
    }
    scratch = Scratch()
    for loader in loaders.values():
        iterated = [(pixels, label) for batch in loader for pixels, label in zip(*batch, strict=True)]
        loaded = []
        for number in range(len(loader)):
            pixels, labels = loader.load(number, scratch)
            assert labels.tolist() == loader.labels(number).tolist()
            loaded += [(pixels[place].copy(), labels[place]) for place in range(len(labels))]
        for made in (iterated, loaded):
            assert len(made) == len(expected)
            for (pixels, label), (right, right_label) in zip(made, expected, strict=True):
                assert pixels.dtype == right.dtype and pixels.tobytes() == right.tobytes()
                assert label == right_label


def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    seen: list[str] = []
    real = decoded

    def noting(path: Path, **settings: Any) -> AbstractContextManager[Image.Image]:
        seen.append(path.name)
        return real(path, **settings)

    monkeypatch.setattr(prepared, "decoded", noting)
    return seen


def load_all(images: ImageSet, folder: Path, pipeline: str = "zoo", **settings: Any) -> np.ndarray[Any, Any]:
    loader = DataLoader(
        images, build_pipeline(PIPELINES[pipeline]), batch_size=2, store=store_in(folder), **settings
    )
    return np.concatenate([batch for batch, _ in loader])


def test_each_image_is_decoded_once(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = decodes(monkeypatch)
    first = load_all(images, tmp_path / "cache")
    assert sorted(seen) == sorted(images.files)
    again = load_all(images, tmp_path / "cache", workers=1)
    # Another normalization of the same geometry needs no decoding either.
    cut_alike = DataLoader(
        images,
        build_pipeline({**PIPELINES["zoo"], "Normalize": {"mean": 0.5, "std": 0.25}}),
        store=store_in(tmp_path / "cache"),
    )
    assert len(list(cut_alike)) == 5
    assert len(seen) == 5
    np.testing.assert_array_equal(first, again)


def test_another_geometry_or_orientation_is_another_entry(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_all(images, tmp_path / "cache")
    seen = decodes(monkeypatch)
    load_all(images, tmp_path / "cache", "resized as 8 bits")
    assert len(seen) == 5
    load_all(images, tmp_path / "cache", exif_orientation=False)
    assert len(seen) == 10


def replace_image(path: Path) -> None:
    pixels = np.random.default_rng(99).integers(0, 256, (24, 31, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("by_content", [False, True])
def test_a_changed_image_is_seen_even_if_its_times_are_set_back(
    images: ImageSet, tmp_path: Path, by_content: bool
) -> None:
    path = images.path(0)
    before = load_all(images, tmp_path / "cache", by_content=by_content)
    stat = path.stat()
    replace_image(path)
    path.write_bytes(path.read_bytes().ljust(stat.st_size, b"\0")[: max(stat.st_size, path.stat().st_size)])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = load_all(images, tmp_path / "cache", by_content=by_content)
    pipeline = build_pipeline(PIPELINES["zoo"])
    np.testing.assert_array_equal(after[0], pipeline(load_image(path), 0)[0])
    assert not np.array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1:], after[1:])


def test_an_image_that_changes_while_it_is_decoded_is_not_kept(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def changing(path: Path, **settings: Any) -> Iterator[Image.Image]:
        with decoded(path, **settings) as found:
            if path.name == images.files[0]:
                replace_image(path)
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "decoded", changing)
        load_all(images, tmp_path / "cache")
    assert store_in(tmp_path / "cache").usage().counts == {"pixels": 4}


def test_keys_of_batches_tell_everything_apart(images: ImageSet) -> None:
    def keys(pipeline: str = "zoo", **settings: Any) -> list[str]:
        loader = DataLoader(images, build_pipeline(PIPELINES[pipeline]), batch_size=2, **settings)
        return [loader.batch_key(number) for number in range(len(loader))]

    assert keys() == keys() and len(set(keys())) == 3
    assert not set(keys()) & set(keys("one mean"))
    assert not set(keys()) & set(keys(exif_orientation=False))
    before = keys()
    replace_image(images.path(0))
    assert [old == new for old, new in zip(before, keys(), strict=True)] == [False, True, True]


def test_content_alone_can_tell_images_apart(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"one")
    assert image_key(path, "x") != image_key(path, "x", by_content=True)
    assert image_key(path, "x") != image_key(path, "y")
    with pytest.raises(InputError, match="absent: there is no such image file"):
        image_key(tmp_path / "absent", "x")


def test_a_missing_image_is_named_with_and_without_a_cache(images: ImageSet, tmp_path: Path) -> None:
    images.path(1).unlink()
    for store in (None, store_in(tmp_path / "cache")):
        loader = DataLoader(images, build_pipeline(PIPELINES["zoo"]), batch_size=2, store=store)
        with pytest.raises(InputError, match=r"1\.png: there is no such image file"):
            loader.load(0)


def test_shapes_that_differ_are_named(images: ImageSet) -> None:
    loader = DataLoader(images, build_pipeline({"Rescale": None}), batch_size=2)
    with pytest.raises(InputError, match="add CenterCrop or Resize"):
        loader.load(0)


@pytest.mark.parametrize(
    ("variable", "expected"), [("/x/y", "/x/y/quantize-pipeline"), ("x/y", None), ("", None)]
)
def test_the_folder_is_the_systems_own(
    variable: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert default_folder() == Path(expected or Path.home() / ".cache" / "quantize-pipeline")
