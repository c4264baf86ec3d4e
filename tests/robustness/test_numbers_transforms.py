"""The arithmetic of preprocessing, against exact rational arithmetic and for every 8-bit picture."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from calibration.errors import InputError
from calibration.transforms import build_pipeline
from calibration.transforms.arithmetic import Cast, LabelShift, Normalize, Rescale, Transpose
from calibration.transforms.base import check_number, normalized
from calibration.transforms.geometry import CenterCrop, Resize, ResizeShortest, center_cropped, opencv_resized
from calibration.transforms.imagenet import BilinearImagenet, ResizeCropImagenet
from tests.robustness.covering import covers, exact, within

PICTURES = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)), elements=st.integers(0, 255)
)
INTERPOLATIONS = st.sampled_from(["bilinear", "nearest", "bicubic"])


@covers(
    "calibration.transforms.arithmetic.Rescale",
    does="each of the 256 values is the float32 nearest to x / 255",
)
@given(picture=PICTURES)
def test_rescale_is_exact(picture: Any) -> None:
    found, label = Rescale()(picture, 3)
    assert found.dtype == np.float32 and label == 3
    for x, y in zip(picture.reshape(-1).tolist(), exact(found), strict=True):
        assert abs(y - Fraction(x, 255)) <= Fraction(x, 255) / (1 << 24)


@covers(
    "calibration.transforms.arithmetic.Normalize",
    "calibration.transforms.base.normalized",
    does="(x - mean) / std is right to a few float32 roundings, whichever axis has the channels",
)
@given(
    picture=PICTURES,
    mean=st.lists(within(255.0), min_size=3, max_size=3),
    std=st.lists(st.floats(1e-6, 255.0), min_size=3, max_size=3),
    first=st.booleans(),
)
def test_normalize_is_exact(picture: Any, mean: list[float], std: list[float], first: bool) -> None:
    image = picture.astype(np.float32)
    given_as = image.transpose(2, 0, 1) if first else image
    if given_as.shape[-1] == 3 and first:
        return  # three columns look like channels, as in 1.x
    found, _ = Normalize(mean, std)(given_as, 0)
    np.testing.assert_array_equal(found, normalized(given_as, mean, std))
    found = found.transpose(1, 2, 0) if first else found
    for channel in range(3):
        m, s = Fraction(float(np.float32(mean[channel]))), Fraction(float(np.float32(std[channel])))
        pairs = zip(exact(image[..., channel]), exact(found[..., channel]), strict=True)
        for x, y in pairs:
            # Near zero float32 has steps of 2^-149, one for the difference and one for the quotient.
            least = (1 + 1 / s) / (1 << 149)
            assert abs(y - (x - m) / s) <= (abs(x) + abs(m)) / s / (1 << 22) + least


@covers(
    "calibration.transforms.arithmetic.Transpose",
    "calibration.transforms.arithmetic.Cast",
    "calibration.transforms.arithmetic.LabelShift",
    does="axes move without loss, casts are numpy's, labels never fall below 0",
)
@given(
    picture=PICTURES,
    perm=st.permutations([0, 1, 2]),
    label=st.integers(0, 1000),
    shift=st.integers(-1000, 1000),
    dtype=st.sampled_from(["float32", "float64", "uint8", "int32"]),
)
def test_axes_types_and_labels(picture: Any, perm: list[int], label: int, shift: int, dtype: str) -> None:
    moved, _ = Transpose(perm)(picture, label)
    back, _ = Transpose(np.argsort(perm).tolist())(moved, label)
    np.testing.assert_array_equal(back, picture)
    cast, _ = Cast(dtype)(picture, label)
    assert cast.dtype == np.dtype(dtype) and [int(x) for x in exact(cast)] == picture.reshape(-1).tolist()
    if label - shift < 0:
        with pytest.raises(InputError, match="below 0"):
            LabelShift(shift)(picture, label)
    else:
        assert LabelShift(shift)(picture, label)[1] == label - shift


@covers(
    "calibration.transforms.geometry.CenterCrop",
    "calibration.transforms.geometry.center_cropped",
    does="the middle, from floor((H - h) / 2) on; a picture that is too small is one line",
)
@given(picture=PICTURES, height=st.integers(1, 9), width=st.integers(1, 9), pillow=st.booleans())
def test_crops(picture: Any, height: int, width: int, pillow: bool) -> None:
    image = Image.fromarray(picture) if pillow else picture
    if picture.shape[0] < height or picture.shape[1] < width:
        with pytest.raises(InputError, match="cannot crop"):
            CenterCrop((height, width))(image, 0)
        return
    found = np.asarray(CenterCrop((height, width))(image, 0)[0])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    np.testing.assert_array_equal(found, picture[top : top + height, left : left + width])
    np.testing.assert_array_equal(np.asarray(center_cropped(image, height, width, "x")), found)


@covers(
    "calibration.transforms.geometry.Resize",
    "calibration.transforms.geometry.ResizeShortest",
    "calibration.transforms.geometry.opencv_resized",
    does="a picture of one colour keeps it, the same size changes nothing, the shorter side is as asked for",
)
@given(picture=PICTURES, size=st.integers(1, 12), interpolation=INTERPOLATIONS)
def test_sizes(picture: Any, size: int, interpolation: str) -> None:
    height, width = picture.shape[:2]
    plain = np.broadcast_to(picture[:1, :1], picture.shape).copy()
    for transform in (Resize(size, interpolation), ResizeShortest(size, interpolation)):
        found = np.asarray(transform(plain, 0)[0])
        assert np.all(found == plain[0, 0])
    shorter = np.asarray(ResizeShortest(size, interpolation)(picture, 0)[0]).shape[:2]
    assert min(shorter) == size and max(shorter) == int(size * max(height, width) / min(height, width))
    np.testing.assert_array_equal(Resize((width, height), interpolation)(picture, 0)[0], picture)
    assert opencv_resized(picture, size, 5, interpolation).shape == (5, size, 3)


@covers(
    "calibration.transforms.imagenet.ResizeCropImagenet",
    "calibration.transforms.imagenet.BilinearImagenet",
    does="a picture of one colour becomes the one number that exact arithmetic gives, to float32",
)
@given(
    colour=st.integers(0, 255),
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    mean=st.floats(-1, 1),
    std=st.floats(0.1, 2),
)
def test_combined_transforms(colour: int, height: int, width: int, mean: float, std: float) -> None:
    picture = np.full((height, width, 3), colour, np.uint8)
    cropped, _ = ResizeCropImagenet(4, 4, resize_side=8, mean_value=mean, std_value=std)(picture, 0)
    assert cropped.shape == (3, 4, 4) and cropped.dtype == np.float32
    assert cropped == pytest.approx((colour / 255 - mean) / std, rel=1e-5, abs=1e-5)
    scaled, _ = BilinearImagenet(4, 5, mean_value=mean, scale=std)(picture, 0)
    assert scaled.shape == (4, 5, 3)
    assert scaled == pytest.approx(((colour / 255 - 0.5) * 2 - mean) * std, rel=1e-5, abs=1e-5)


@covers(
    "calibration.transforms.base.check_number",
    does="a number that float32 cannot hold is refused where it is written",
)
@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_numbers_fit_float32(value: float) -> None:
    if abs(value) <= float(np.finfo(np.float32).max):
        assert check_number("x", value) == value
    else:
        with pytest.raises(InputError, match="is not a finite number"):
            check_number("x", value)


@pytest.mark.robustness(
    "Numbers",
    "A mean or deviation of the configuration overflows, or is zero, in float32",
    "it is refused by its field, before any image is read",
)
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Normalize", {"mean": 1e300, "std": 1.0}),
        ("Normalize", {"mean": 0.0, "std": 1e300}),
        ("Normalize", {"mean": 0.0, "std": 1e-300}),
        ("ResizeCropImagenet", {"height": 4, "width": 4, "std_value": 1e-300}),
        ("ResizeCropImagenet", {"height": 4, "width": 4, "mean_value": float("inf")}),
        ("BilinearImagenet", {"height": 4, "width": 4, "scale": 1e300}),
    ],
)
def test_absurd_parameters(name: str, parameters: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"transform {name}"):
        build_pipeline({name: parameters})
