"""Building pipelines from a configuration's mapping, and what they know before the first image."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibration.errors import InputError
from calibration.transforms import KNOWN, Pipeline, Rescale, build_pipeline

NORMALIZE = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
ZOO: dict[str, Any] = {
    "ResizeShortest": {"size": 256},
    "CenterCrop": {"size": 224},
    "Rescale": None,
    "Normalize": NORMALIZE,
    "Transpose": {"perm": [2, 0, 1]},
    "Cast": {"dtype": "float32"},
}


def image(width: int = 500, height: int = 375) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_zoo_preprocessing() -> None:
    pipeline = build_pipeline(ZOO)
    pixels, label = pipeline(image(), 3)
    assert (pixels.shape, pixels.dtype, label) == ((3, 224, 224), np.float32, 3)
    assert pixels.flags["C_CONTIGUOUS"]
    reference = np.asarray(image().resize((341, 256), Image.Resampling.BILINEAR))[16:240, 58:282] / 255
    reference = ((reference - NORMALIZE["mean"]) / NORMALIZE["std"]).transpose(2, 0, 1)
    # float32 against float64: values up to 2.7, three roundings, divided by a std of 0.22.
    np.testing.assert_allclose(pixels, reference, rtol=0, atol=1e-6)
    assert pipeline.output_shape() == (3, 224, 224)
    assert pipeline.layout() == "NCHW"
    assert pipeline.output_spec().dtype == np.float32


def test_order_is_the_written_one() -> None:
    first = build_pipeline({"Rescale": {}, "Resize": {"size": 8}, "Normalize": {"mean": 0.5}})
    second = build_pipeline({"Resize": {"size": 8}, "Normalize": {"mean": 0.5}, "Rescale": {}})
    assert first(image(), 0)[0].max() <= 0.5
    assert abs(second(image(), 0)[0]).max() < 1
    assert [step["name"] for step in second.to_json()] == ["Resize", "Normalize", "Rescale"]


def test_json_holds_every_parameter_and_tells_pipelines_apart() -> None:
    spec = {"Resize": {"size": 8}, "ResizeCropImagenet": {"height": 2, "width": 3, "mean_value": 0}}
    written = json.loads(json.dumps(build_pipeline(spec).to_json()))
    assert written[0] == {"name": "Resize", "size": [8, 8], "interpolation": "bilinear"}
    assert written[1]["mean_value"] == [0.0, 0.0, 0.0]
    assert build_pipeline(ZOO).to_json() != build_pipeline({**ZOO, "CenterCrop": {"size": 192}}).to_json()
    assert build_pipeline({"Resize": {"size": [8, 8]}}) == build_pipeline({"Resize": {"size": 8}})


@pytest.mark.parametrize(
    ("spec", "shape", "layout"),
    [
        ({}, None, "NHWC"),
        ({"ResizeShortest": {"size": 8}}, None, "NHWC"),
        ({"Resize": {"size": [6, 4]}}, (4, 6, 3), "NHWC"),
        ({"CenterCrop": {"size": [6, 4]}, "LabelShift": {"label_shift": -1}}, (6, 4, 3), "NHWC"),
        ({"Transpose": {"perm": [2, 0, 1]}}, None, "NCHW"),
        ({"ResizeCropImagenet": {"height": 6, "width": 4}}, (3, 6, 4), "NCHW"),
        ({"BilinearImagenet": {"height": 6, "width": 4}}, (6, 4, 3), "NHWC"),
    ],
)
def test_shape_and_layout_are_known_beforehand(
    spec: dict[str, Any], shape: tuple[int, ...] | None, layout: str
) -> None:
    pipeline = build_pipeline(spec)
    assert pipeline.output_shape() == shape
    assert pipeline.layout() == layout
    pixels, _ = pipeline(image(20, 16), 0)
    assert pixels.dtype == pipeline.output_spec().dtype
    assert shape is None or pixels.shape == shape


def test_strange_axes_have_no_layout() -> None:
    pipeline = build_pipeline({"Transpose": {"perm": [1, 0, 2]}})
    with pytest.raises(InputError, match="axes come out as WHC"):
        pipeline.layout()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"resize": {"size": 8}}, "transform 'resize' is not known: did you mean 'Resize'"),
        ({"CentreCrop": {"size": 8}}, "did you mean 'CenterCrop'"),
        ({"Zzz": None}, "known are BilinearImagenet, Cast"),
        ({"Resize": {"siez": 8}}, "Resize has no parameter 'siez': did you mean 'size'"),
        ({"Resize": {"qqq": 8}}, "Resize has no parameter 'qqq': known are size, interpolation"),
        ({"Rescale": {"scale": 8}}, "Rescale has no parameter 'scale': it takes none"),
        ({"Resize": None}, "Resize: parameter 'size' is missing"),
        ({"Resize": 256}, "Resize: 256 is not a mapping"),
        (
            {"Rescale": None, "ResizeShortest": {"size": 8}},
            "needs 8-bit pixels, gets float32: put it before Rescale",
        ),
        ({"Transpose": {"perm": [2, 0, 1]}, "ResizeShortest": {"size": 8}}, "put it before Transpose"),
        ({"Transpose": {"perm": [2, 0, 1]}, "Resize": {"size": 8}}, "Resize: comes after Transpose"),
        ({"Transpose": {"perm": [2, 0, 1]}, "CenterCrop": {"size": 8}}, "CenterCrop: comes after Transpose"),
        ({"Transpose": {"perm": [0, 2, 1]}, "Normalize": {}}, "the channels are in the middle"),
        ({"Cast": {"dtype": "int64"}, "Resize": {"size": 8}}, "cannot resize int64 pixels"),
        ({"Resize": {"size": 8}, "CenterCrop": {"size": 9}}, "cannot crop 9x9 out of 8x8 pixels"),
        ({"Rescale": None, "BilinearImagenet": {"height": 8, "width": 8}}, "divides by 255 itself"),
        ({"Normalize": None, "ResizeCropImagenet": {"height": 8, "width": 8}}, "divides by 255 itself"),
    ],
)
def test_bad_configurations(spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        build_pipeline(spec)
    assert "\n" not in str(caught.value)


def test_every_known_transform_is_frozen_and_documented() -> None:
    step = Rescale()
    with pytest.raises(AttributeError):
        step.size = 3  # type: ignore[attr-defined]  # the attribute must not be there
    assert all(kind.__doc__ for kind in KNOWN)
    assert hash(build_pipeline(ZOO)) == hash(build_pipeline(ZOO))
    assert Pipeline(()) == build_pipeline({})
