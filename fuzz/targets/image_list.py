"""A list of images, `val.txt`, beside a folder with two of them."""

from __future__ import annotations

from calibration.listing import read_image_list
from fuzz.harness import Target, file_of, scratch


def run(data: bytes) -> None:
    """Reads the list, and holds it to what it promises: images inside of the folder, a label for each."""
    root = scratch() / "images"
    (root / "n01").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "n01/b c.png"):
        (root / name).touch()
    with file_of(data, "val.txt") as path:
        images = read_image_list(root, path)
    assert len(images.files) == len(images.labels) == len(set(images.files))
    for name, label in zip(images.files, images.labels, strict=True):
        assert (root / name).resolve().is_relative_to(root.resolve()), name
        assert label >= 0


TARGET = Target("image_list", "lists of images", run, max_bytes=512, short_runs=4000)
