"""Each transform by itself: exact cases, then against Pillow and against INC's own classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibration.errors import InputError
from calibration.images import load_image, read_image_list
from calibration.transforms import (
    BilinearImagenet,
    Cast,
    CenterCrop,
    LabelShift,
    Normalize,
    Rescale,
    Resize,
    ResizeCropImagenet,
    ResizeShortest,
    Transform,
    Transpose,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def run(transform: Transform, image: Any) -> np.ndarray:
    result, label = transform(image, 5)
    assert label == 5
    return np.asarray(result)


def test_rescale_is_exact_float32() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    got = run(Rescale(), ramp)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, ramp.astype(np.float32) / np.float32(255))
    assert run(Rescale(), Image.new("RGB", (2, 2), (255, 0, 51)))[0, 0].tolist() == [1, 0, np.float32(0.2)]


def test_normalize_by_channel_wherever_it_stands() -> None:
    unit = run(Rescale(), noise(5, 7))
    expected = (unit - np.array(MEAN)) / np.array(STD)
    got = run(Normalize(MEAN, STD), unit)
    assert got.dtype == np.float32
    # float32 against float64: half an ulp of 1 for the difference and of the quotient, over the smallest std.
    np.testing.assert_allclose(got, expected, rtol=0, atol=6e-7)
    planar = run(Normalize(MEAN, STD), unit.transpose(2, 0, 1))
    np.testing.assert_array_equal(planar, got.transpose(2, 0, 1))
    assert run(Transpose([2, 0, 1]), got).flags["C_CONTIGUOUS"]


def test_normalize_takes_scalars_and_integers() -> None:
    pixels = noise(4, 4)
    expected = (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(2)
    for parameters in ((127.5, 2), ([127.5], [2]), ([127.5] * 3, 2), (127.5, [2.0] * 3)):
        np.testing.assert_array_equal(run(Normalize(*parameters), pixels), expected)
    np.testing.assert_array_equal(run(Normalize(), pixels), pixels)


def test_normalize_does_not_write_into_its_input() -> None:
    pixels = noise(4, 4).astype(np.float32)
    before = pixels.copy()
    run(Normalize(1, 2), pixels)
    np.testing.assert_array_equal(pixels, before)


def test_normalize_names_a_channel_count_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="mean has 3 numbers, the image 4 channels"):
        run(Normalize(MEAN, STD), np.zeros((4, 5, 5), np.float32))


def test_transpose_cast_and_label_shift() -> None:
    pixels = noise(4, 6)
    assert run(Transpose([2, 0, 1]), pixels).shape == (3, 4, 6)
    assert run(Cast("int32"), np.array([[1.9, -1.9]])).tolist() == [[1, -1]]
    assert run(Cast(), pixels).dtype == np.float32
    assert LabelShift(1)(pixels, 7)[1] == 6
    assert LabelShift(-1)(pixels, 7)[1] == 8
    with pytest.raises(InputError, match="label 0 - 1 is below 0"):
        LabelShift(1)(pixels, 0)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 7), (6, 9), (4, 4)])
def test_center_crop_rounds_down(height: int, width: int) -> None:
    pixels = noise(height, width)
    top, left = (height - 4) // 2, (width - 4) // 2
    expected = pixels[top : top + 4, left : left + 4]
    np.testing.assert_array_equal(run(CenterCrop(4), pixels), expected)
    np.testing.assert_array_equal(run(CenterCrop([4]), Image.fromarray(pixels)), expected)
    assert run(CenterCrop([2, 3]), pixels).shape == (2, 3, 3)


@pytest.mark.parametrize("shape", [(3, 9), (9, 3)])
def test_center_crop_names_both_sizes(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"cannot crop 4x4 out of {shape[0]}x{shape[1]}"):
        CenterCrop(4)(noise(*shape), 0)


@pytest.mark.parametrize(
    ("size", "expected"),
    # Width and height before and after; 256 · 500 / 375 = 341.3 and 256 · 500 / 333 = 384.4 are cut.
    [((500, 375), (341, 256)), ((333, 500), (256, 384)), ((80, 80), (256, 256)), ((256, 300), (256, 300))],
)
def test_resize_shortest_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    assert ResizeShortest(256)(image, 0)[0].size == expected


def test_resize_shortest_takes_arrays_and_refuses_strips() -> None:
    pixels = noise(30, 20)
    reference = Image.fromarray(pixels).resize((10, 15), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(run(ResizeShortest(10, "bicubic"), pixels), np.asarray(reference))
    with pytest.raises(InputError, match=r"would make 256x1536000 pixels of 1x6000"):
        ResizeShortest(256)(Image.new("RGB", (1, 6000)), 0)


def test_resize_list_is_width_then_height_as_in_1x() -> None:
    assert run(Resize([8, 4]), noise(10, 10)).shape == (4, 8, 3)
    assert run(Resize([8]), noise(10, 10)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Resize(0), "Resize: size: 0 is not a size"),
        (lambda: Resize(-1), "-1 is not a size"),
        (lambda: Resize(True), "True is not a size"),
        (lambda: Resize("256"), "'256' is not a size"),
        (lambda: Resize([1, 2, 3]), "is not a size: give an integer or a list of two"),
        (lambda: Resize(8, "area"), "Resize: interpolation: 'area' is not known: give one of bilinear"),
        (lambda: ResizeShortest(2.5), "ResizeShortest: size: 2.5"),
        (lambda: ResizeShortest(8, None), "ResizeShortest: interpolation: None"),
        (lambda: CenterCrop([4, 0]), "CenterCrop: size: 0"),
        (lambda: CenterCrop(None), "CenterCrop: size: None"),
        (lambda: Normalize(0, 0), "std: 0.0 is too small"),
        (lambda: Normalize(0, [1, 1, -1]), "std: -1.0 is too small"),
        (lambda: Normalize(float("nan")), "mean: nan is not a finite number"),
        (lambda: Normalize([0, 0, "x"]), "mean: 'x' is not a finite number"),
        (lambda: Normalize([0, 0]), "mean: has 2 numbers"),
        (lambda: Normalize(0, []), "std: has 0 numbers"),
        (lambda: Transpose([2, 0]), "is not an order of 0, 1, 2"),
        (lambda: Transpose([2, 0, 0]), "is not an order of 0, 1, 2"),
        (lambda: Transpose(None), "is not an order of 0, 1, 2"),
        (lambda: Transpose(["2", 0, 1]), "is not an order of 0, 1, 2"),
        (lambda: Cast("float"), "Cast: dtype: 'float' is not known: give one of float32"),
        (lambda: LabelShift(0.5), "label_shift: 0.5 is not an integer"),
        (lambda: ResizeCropImagenet(224, 0), "ResizeCropImagenet: width: 0"),
        (lambda: ResizeCropImagenet(300, 224), "cannot crop 300x224 after resize_side 256"),
        (
            lambda: ResizeCropImagenet(224, 224, random_crop=True),
            "random_crop: calibration must be repeatable",
        ),
        (lambda: ResizeCropImagenet(224, 224, subpixels="BGR"), "subpixels: 'BGR' is not known"),
        (lambda: ResizeCropImagenet(224, 224, data_format="channels_first"), "data_format: 'channels_first'"),
        (lambda: ResizeCropImagenet(224, 224, resize_method="area"), "resize_method: 'area'"),
        (lambda: ResizeCropImagenet(224, 224, std_value=0), "std_value: .* is too small"),
        (lambda: BilinearImagenet(0, 224), "BilinearImagenet: height: 0"),
        (lambda: BilinearImagenet(224, 224, central_fraction=1.5), "central_fraction: 1.5 is not in"),
        (lambda: BilinearImagenet(224, 224, scale=0), "scale: 0 would make every image black"),
    ],
)
def test_bad_parameters(make: Callable[[], Transform], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make()


@pytest.fixture(scope="module")
def inc() -> dict[str, Any]:
    """INC's own transforms for ONNX Runtime, by name."""
    from neural_compressor.data.transforms.transform import TRANSFORMS

    found = TRANSFORMS("onnxrt_qlinearops", "preprocess").transforms
    from neural_compressor.data.transforms.imagenet_transform import LabelShift as IncLabelShift

    return {**found, "LabelShift": IncLabelShift}


FLOAT = noise(37, 53).astype(np.float32) / 255


@pytest.mark.parametrize("pixels", [noise(37, 53), FLOAT, FLOAT.astype(np.float64)], ids=["u8", "f32", "f64"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("size", [16, 64, [20, 30], [24]])
def test_resize_is_inc(inc: dict[str, Any], pixels: np.ndarray, interpolation: str, size: Any) -> None:
    expected, _ = inc["Resize"](size, interpolation)((pixels, 0))
    got = run(Resize(size, interpolation), pixels)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("name", "parameters", "pixels"),
    [
        ("Rescale", {}, noise(9, 8)),
        ("Rescale", {}, FLOAT),
        ("CenterCrop", {"size": 5}, noise(10, 8)),
        ("CenterCrop", {"size": [4, 7]}, FLOAT),
        ("Transpose", {"perm": [2, 0, 1]}, noise(10, 8)),
        ("Cast", {"dtype": "float32"}, noise(10, 8)),
        ("Cast", {"dtype": "int16"}, FLOAT * 300),
        ("LabelShift", {"label_shift": -1}, FLOAT),
    ],
)
def test_simple_transforms_are_bit_equal_to_inc(
    inc: dict[str, Any], name: str, parameters: dict[str, Any], pixels: np.ndarray
) -> None:
    ours = {kind.__name__: kind for kind in (Rescale, CenterCrop, Transpose, Cast, LabelShift)}
    expected, expected_label = inc[name](**parameters)((pixels, 5))
    got, label = ours[name](**parameters)(pixels, 5)
    assert label == expected_label
    assert np.asarray(got).dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_normalize_is_inc_in_float32(inc: dict[str, Any]) -> None:
    expected, _ = inc["Normalize"](MEAN, STD)((FLOAT, 0))
    np.testing.assert_allclose(run(Normalize(MEAN, STD), FLOAT), expected, rtol=0, atol=6e-7)


@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (256, 256), (60, 90), (375, 500)])
@pytest.mark.parametrize("options", [{}, {"mean_value": MEAN, "std_value": STD}, {"resize_side": 232}])
def test_resize_crop_imagenet_is_inc(
    inc: dict[str, Any], shape: tuple[int, int], options: dict[str, Any]
) -> None:
    pixels = noise(*shape)
    expected, _ = inc["ResizeCropImagenet"](224, 200, **options)((pixels, 0))
    got = run(ResizeCropImagenet(224, 200, **options), pixels)
    assert got.dtype == expected.dtype == np.float32
    # INC computes in float64 to the end. Values are up to 4.4, whose ulp is 4.8e-7: two ulps.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(300, 400), (401, 299), (60, 90)])
@pytest.mark.parametrize("options", [{}, {"mean_value": MEAN, "scale": 2.0}, {"central_fraction": 1.0}])
def test_bilinear_imagenet_is_inc(
    inc: dict[str, Any], shape: tuple[int, int], options: dict[str, Any]
) -> None:
    pixels = noise(*shape)
    expected, _ = inc["BilinearImagenet"](224, 200, **options)((pixels, 0))
    got = run(BilinearImagenet(224, 200, **options), pixels)
    assert got.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_real_images_against_inc_and_pillow(shared_dir: Path, inc: dict[str, Any]) -> None:
    sample = shared_dir / "imagenet-sample"
    images = read_image_list(sample / "images", sample / "val.txt")
    for index in range(0, 500, 25):
        image = load_image(images.path(index))
        expected, _ = inc["Resize"](256)(inc["Rescale"]()((np.array(image), 0)))
        np.testing.assert_array_equal(run(Resize(256), run(Rescale(), image)), expected)

        width, height = (int(256 * side / min(image.size)) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
        reference = np.asarray(resized)[top : top + 224, left : left + 224]
        shortest, _ = ResizeShortest(256)(image, 0)
        np.testing.assert_array_equal(run(CenterCrop(224), shortest), reference)
