"""What becomes of a run when images cannot be used: named, counted, left out, or stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration.dataloader import DataLoader
from calibration.images import ImageSet
from calibration.transforms import build_pipeline
from quantize.errors import InputError
from quantize.soundness import BadImage, Soundness, sound

PIPELINE = build_pipeline({"Rescale": None})


class Told(DataLoader):
    """A loader of images that nobody has to make: what is wrong with them is given."""

    def __init__(self, count: int, bad: dict[int, str]) -> None:
        names = tuple(f"{index}.png" for index in range(count))
        super().__init__(ImageSet(Path("x"), names, (0,) * count, "test"), PIPELINE)
        self.bad = bad

    def problems(self) -> dict[int, str]:
        return self.bad


def test_good_images_pass_as_they_are() -> None:
    loaders = {"calibration": Told(3, {}), "evaluation": Told(5, {})}
    left, found = sound(loaders, skip=False)
    assert left == loaders
    assert (found.checked, found.bad, found.warnings) == (8, (), ())


def test_one_percent_may_be_skipped_and_one_image_more_not() -> None:
    left, found = sound({"evaluation": Told(200, {7: "torn", 3: "wet"})}, skip=True)
    assert [bad.name for bad in found.bad] == ["3.png", "7.png"]
    assert len(left["evaluation"].images) == 198
    assert found.warnings == ("2 of 200 images are skipped: 3.png: wet; 7.png: torn",)
    with pytest.raises(InputError, match=r"3 of 200 images are bad.*that is 1\.50%.* at most 1%"):
        sound({"evaluation": Told(200, dict.fromkeys(range(3), "torn"))}, skip=True)


def test_a_role_must_keep_an_image() -> None:
    loaders = {"calibration": Told(1, {0: "torn"}), "evaluation": Told(500, {})}
    with pytest.raises(InputError, match="that leaves no image for calibration; replace them"):
        sound(loaders, skip=True)


def test_without_leave_one_bad_image_stops() -> None:
    with pytest.raises(InputError, match=r"^1 of 1000 images is bad, .*: 5\.png: torn; .* skip$"):
        sound({"evaluation": Told(1000, {5: "torn"})}, skip=False)


def test_a_line_names_three_and_the_report_a_hundred() -> None:
    bad = tuple(BadImage("evaluation", f"{index}.png", "torn") for index in range(300))
    found = Soundness(100_000, bad)
    assert found.warnings[0].endswith("2.png: torn; and 297 more")
    told = found.to_json()
    assert (told["checked_count"], told["skipped_count"]) == (100_000, 300)
    images = told["images"]
    assert isinstance(images, list)
    assert len(images) == 100


def test_names_and_reasons_are_printable_and_short() -> None:
    bad = BadImage("evaluation", "\x1b[2J" + "x" * 10_000, "y\n" * 10_000)
    told = bad.to_json()
    assert told["name"].startswith(r"\x1b[2J")
    assert max(map(len, told.values())) < 500
    assert "\n" not in str(bad)
