"""ImageNet's validation archive: a tar of images -> a folder of them."""

from __future__ import annotations

import shutil

from fuzz.harness import Target, file_of, scratch
from quantize.acquire.ground_truth import GroundTruth
from quantize.acquire.imagenet import prepare_imagenet

_TRUTH = GroundTruth({f"ILSVRC2012_val_{number:08}.JPEG": number for number in (1, 2)}, (), (), "fuzzing")


def run(data: bytes) -> None:
    """Extracts it, and looks whether anything came to lie elsewhere."""
    folder = scratch() / "extracted"
    with file_of(data, "val.tar") as path:
        before = sorted(scratch().iterdir())
        try:
            prepare_imagenet(path, _TRUTH, folder, sha1=None)
        finally:
            extracted = [found.relative_to(folder).as_posix() for found in folder.rglob("*")]
            shutil.rmtree(folder, ignore_errors=True)
            assert sorted(scratch().iterdir()) == before
            allowed = {"images", "val.txt", *(f"images/{name}" for name in _TRUTH.by_name)}
            assert set(extracted) <= allowed, extracted


TARGET = Target("validation_archive", "ImageNet's validation archives", run, max_bytes=8192, short_runs=1500)
