from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from calibration.transforms import build_pipeline
from quantize.errors import InputError
from quantize.exporting import export_pixels
from quantize.exporting.raw_pixels import arithmetic
from quantize.exporting.uint8_input import fold_preprocessing, split_pipeline
from quantize.model import read_signature
from quantize.session import make_session, run
from tests.quantize.conftest import ModelFiles, ModelMaker
from tests.quantize.prediction.conftest import config, photos

__all__ = ["config", "photos"]  # fixtures

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

# Every order in which the arithmetic may be written; the crop is the app's.
ORDERS: dict[str, dict[str, Any]] = {
    "usual": {"Rescale": {}, "Normalize": {"mean": MEAN, "std": STD}, "Transpose": {"perm": [2, 0, 1]}},
    "transposed first": {
        "Transpose": {"perm": [2, 0, 1]},
        "Rescale": {},
        "Normalize": {"mean": MEAN, "std": STD},
        "Cast": {"dtype": "float32"},
    },
    "on the scale of pixels": {
        "Normalize": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
        "Transpose": {"perm": [2, 0, 1]},
    },
    "one number for all": {"Normalize": {"mean": 127.5, "std": 127.5}, "Transpose": {"perm": [2, 0, 1]}},
    "nothing but the layout": {"Cast": {"dtype": "float32"}, "Transpose": {"perm": [2, 0, 1]}},
}


def every_value() -> np.ndarray[Any, Any]:
    """[16, 16, 3], each channel with all 256 values, each in another order."""
    channels = [np.random.default_rng(seed).permutation(256) for seed in range(3)]
    return np.stack(channels, axis=1).reshape(16, 16, 3).astype(np.uint8)


@pytest.mark.parametrize("size", ["fixed", "open"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_operators_give_the_bits_of_the_transforms_for_every_value(
    order: str, layout: Any, size: str, make_classifier: ModelMaker
) -> None:
    crop = {"CenterCrop": {"size": 16}} if size == "fixed" else {}
    split = split_pipeline(build_pipeline({**crop, **ORDERS[order]}))
    assert [type(step).__name__ for step in split.geometry.steps] == list(crop)
    model = make_classifier()
    for axis, name in ((2, "height"), (3, "width")):
        dim = model.graph.input[0].type.tensor_type.shape.dim[axis]
        if size == "fixed":
            dim.dim_value = 16
        else:
            dim.dim_param = name
    folded = fold_preprocessing(model, read_signature(model, Path("m")), split, layout=layout)
    # What used to be the input is now an inner tensor; look at it.
    folded.graph.output.append(onnx.ValueInfoProto(name="image"))
    pixels = every_value()
    given = pixels if layout == "NHWC" else pixels.transpose(2, 0, 1)
    (made,) = run(make_session(folded, threads=1), ["image"], {"pixels": np.stack([given, given])})
    expected = arithmetic(split, pixels)
    assert made.dtype == expected.dtype
    assert made[0].tobytes() == made[1].tobytes() == expected.tobytes()


def test_a_model_of_the_first_format_version(make_classifier: ModelMaker) -> None:
    """Before IR 4 every constant is an input as well; those that are added are not."""
    model = make_classifier(opset=7)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    split = split_pipeline(build_pipeline({"CenterCrop": {"size": 8}, **ORDERS["usual"]}))
    folded = fold_preprocessing(model, read_signature(model, Path("m")), split, layout="NHWC")
    (made,) = run(make_session(folded, threads=1), ["scores"], {"pixels": np.zeros((1, 8, 8, 3), np.uint8)})
    assert made.shape == (1, 7)


@pytest.mark.parametrize("spelling", ["fp32", "qoperator", "qdq"])
def test_the_whole_model_gives_the_same_bits(
    spelling: str, model_files: ModelFiles, photos: list[Path], config: Path, tmp_path: Path
) -> None:
    made = export_pixels(getattr(model_files, spelling), tmp_path / "out", config=config, images=photos)
    assert made.agreement.bit_equal
    assert made.agreement.images == 4 + len(photos)
    assert made.input_shape == ("n", 8, 8, 3)
    session = make_session(made.model, threads=1)
    assert [(port.name, port.type) for port in session.get_inputs()] == [("pixels", "tensor(uint8)")]
    crop = np.asarray(Image.open(photos[0]))[1:9, 0:8]
    (scores,) = run(session, ["scores"], {"pixels": np.stack([crop] * 3)})
    assert scores.shape == (3, 7)


def test_the_model_says_what_is_left_to_do(model_files: ModelFiles, config: Path, tmp_path: Path) -> None:
    made = export_pixels(model_files.qdq, tmp_path, config=config, layout="NCHW")
    assert made.model.name == "QDQ-uint8.onnx"
    said = {entry.key: entry.value for entry in onnx.load(made.model).metadata_props}
    assert said["quantize.input"] == "uint8 RGB NCHW"
    steps = json.loads(said["quantize.preprocessing"])
    assert [step["name"] for step in steps["app"]] == ["CenterCrop"]
    assert [step["name"] for step in steps["graph"]] == ["Rescale", "Normalize", "Transpose"]
    assert list(made.app) == steps["app"]


def test_a_fixed_batch(make_classifier: ModelMaker, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_classifier(batch=4), path)
    made = export_pixels(path, tmp_path, config=config)
    assert made.input_shape == (4, 8, 8, 3)
    assert made.agreement.bit_equal


def test_a_photograph_of_another_size_is_named(model_files: ModelFiles, config: Path, tmp_path: Path) -> None:
    uncropped = tmp_path / "uncropped.yaml"
    text = config.read_text(encoding="utf-8")
    uncropped.write_text(re.sub(r"\n *CenterCrop: .*", "", text), encoding="utf-8")
    small = tmp_path / "small.png"
    Image.new("RGB", (3, 1)).save(small)
    with pytest.raises(InputError, match=r"^--images .*small\.png: has 1x3 pixels .* takes 8x8"):
        export_pixels(model_files.qdq, tmp_path / "out", config=uncropped, images=[small])
    assert not (tmp_path / "out").exists()


def test_a_difference_is_told(
    model_files: ModelFiles, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is one: with other transforms on the float side it finds what they change."""
    wrong = "quantize.exporting.raw_pixels.arithmetic"
    monkeypatch.setattr(wrong, lambda split, pixels: arithmetic(split, pixels) + np.float32(0.25))
    made = export_pixels(model_files.fp32, tmp_path, config=config)
    assert made.agreement.equal_images == 0
    assert made.agreement.max_abs_difference > 1e-3


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            {"Rescale": {}, "CenterCrop": {"size": 8}, "Transpose": {"perm": [2, 0, 1]}},
            "CenterCrop does not leave",
        ),
        ({"CenterCrop": {"size": 8}}, "CenterCrop does not leave"),
        ({"ResizeCropImagenet": {"height": 8, "width": 8}}, "ResizeCropImagenet does not leave"),
        ({"Rescale": {}, "Cast": {"dtype": "float16"}}, "Cast: float16"),
    ],
)
def test_preprocessing_that_cannot_be_folded(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_pipeline(build_pipeline(transform))


def test_preprocessing_of_another_model(make_classifier: ModelMaker) -> None:
    split = split_pipeline(build_pipeline({"CenterCrop": {"size": 9}, "Transpose": {"perm": [2, 0, 1]}}))
    model = make_classifier()
    with pytest.raises(InputError, match=r"makes 3x9x9, but the model takes 3x8x8"):
        fold_preprocessing(model, read_signature(model, Path("m")), split)


def test_names_do_not_clash(make_classifier: ModelMaker) -> None:
    model = make_classifier()
    model.graph.node[1].output[0] = model.graph.node[2].input[0] = "pixels"
    split = split_pipeline(build_pipeline({"Rescale": {}, "Transpose": {"perm": [2, 0, 1]}}))
    folded = fold_preprocessing(model, read_signature(model, Path("m")), split)
    assert folded.graph.input[0].name == "pixels_2"
    make_session(folded, threads=1)


def test_small_images_too_are_compared_on_every_value(tmp_path: Path, make_classifier: ModelMaker) -> None:
    model = make_classifier()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 4
    path, config = tmp_path / "net.onnx", tmp_path / "c.yaml"
    onnx.save(model, path)
    loader = {"dataset": {"ImagenetRaw": {"data_path": "x"}}, "transform": {"Transpose": {"perm": [2, 0, 1]}}}
    config.write_text(json.dumps({"evaluation": {"accuracy": {"dataloader": loader}}}), encoding="utf-8")
    made = export_pixels(path, tmp_path / "out", config=config)
    # 16 pixels an image.
    assert made.agreement.images == 16
    assert made.compared == "16 noise images with all 256 values in every channel"
