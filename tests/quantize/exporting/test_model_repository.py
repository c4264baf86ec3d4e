from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantize.errors import InputError
from quantize.exporting import Repository, export_pixels, export_repository
from quantize.exporting.model_repository import Port, config_text
from quantize.session import make_session, run
from tests.quantize.conftest import CLASSES, ModelFiles, ModelMaker
from tests.quantize.prediction.conftest import config

__all__ = ["config"]  # a fixture

NUMPY = {"TYPE_FP32": np.float32, "TYPE_UINT8": np.uint8}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "synset.txt"
    path.write_text("".join(f"n0000000{i} name {i}\x1b\n" for i in range(CLASSES)), encoding="utf-8")
    return path


def parsed(text: str) -> Any:
    """The configuration, read with the schema that NVIDIA publishes."""
    schema = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2",
        reason="needs the schema: pip install 'tritonclient[grpc]' (not in dev: it holds protobuf back)",
    )
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def request(made: Repository) -> dict[str, Any]:
    """What a client may send: two images where the server batches, one batch otherwise."""
    leading = [2] if made.max_batch_size else []
    return {port.name: np.ones([*leading, *port.dims], NUMPY[port.data_type]) for port in made.inputs}


def test_layout_and_what_the_server_will_load(model_files: ModelFiles, labels: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    made = export_repository(model_files.qoperator, repository, name="net", version=3, labels=labels)
    assert {path.relative_to(repository).as_posix() for path in made.files} == {
        "net/config.pbtxt",
        "net/labels.txt",
        "net/3/model.onnx",
    }
    assert (repository / "net/3/model.onnx").read_bytes() == model_files.qoperator.read_bytes()
    assert (repository / "net/labels.txt").read_text(encoding="utf-8").splitlines() == [
        rf"n0000000{i} name {i}\x1b" for i in range(CLASSES)
    ]
    (scores,) = run(make_session(repository / "net/3/model.onnx", threads=1), ["scores"], request(made))
    assert scores.shape == (2, *made.outputs[0].dims)


def test_the_configuration_parses_with_the_published_schema(
    model_files: ModelFiles, labels: Path, tmp_path: Path
) -> None:
    made = export_repository(model_files.qdq, tmp_path / "models", labels=labels, max_batch_size=16)
    found = parsed((made.folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert (found.name, found.backend, found.platform) == ("QDQ", "onnxruntime", "onnxruntime_onnx")
    assert found.max_batch_size == 16
    (given,), (result,) = found.input, found.output
    assert (given.name, list(given.dims)) == ("image", [3, 8, 8])
    assert (
        given.data_type
        == type(found).DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name["TYPE_FP32"].number
    )
    assert (result.name, list(result.dims), result.label_filename) == ("scores", [CLASSES], "labels.txt")
    assert found.HasField("dynamic_batching")
    assert (found.instance_group[0].count, found.default_model_filename) == (1, "model.onnx")


def test_strings_arrive_as_they_were(tmp_path: Path) -> None:
    odd = 'a"b\\c\n\x1b ż \u202e'
    found = parsed(
        config_text(
            "n",
            [Port(odd, "TYPE_FP32", (1,))],
            [Port('żółw \\ "', "TYPE_FP32", (-1,))],
            max_batch_size=0,
            with_labels=False,
        )
    )
    assert found.input[0].name == odd
    assert found.output[0].name == 'żółw \\ "'
    assert list(found.output[0].dims) == [-1]
    assert not found.HasField("dynamic_batching")


def test_a_model_with_a_batch_of_its_own(make_classifier: ModelMaker, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_classifier(batch=4), path)
    made = export_repository(path, tmp_path / "models")
    text = (made.folder / "config.pbtxt").read_text(encoding="utf-8")
    assert made.max_batch_size == 0
    assert made.inputs[0].dims == (4, 3, 8, 8)
    assert "max_batch_size: 0" in text
    assert "dynamic_batching" not in text
    (scores,) = run(make_session(made.folder / "1/model.onnx", threads=1), ["scores"], request(made))
    assert scores.shape == made.outputs[0].dims


def test_raw_pixels(model_files: ModelFiles, config: Path, tmp_path: Path) -> None:
    pixels = export_pixels(model_files.qdq, tmp_path, config=config)
    made = export_repository(pixels.model, tmp_path / "models", labels=None)
    assert made.inputs == (Port("pixels", "TYPE_UINT8", (8, 8, 3)),)
    run(make_session(made.folder / "1/model.onnx", threads=1), ["scores"], request(made))
    assert "label_filename" not in (made.folder / "config.pbtxt").read_text(encoding="utf-8")


def test_other_versions_stay(model_files: ModelFiles, tmp_path: Path) -> None:
    for version in (1, 2):
        export_repository(model_files.qdq, tmp_path / "models", name="net", version=version)
    assert sorted(path.name for path in (tmp_path / "models/net").iterdir()) == ["1", "2", "config.pbtxt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "--name: '' becomes part of paths"),
        ({"name": "../up"}, "--name: '../up' becomes part of paths"),
        ({"version": 0}, "--model_version 0: give 1 or more"),
        ({"max_batch_size": 0}, "--max_batch_size 0: give 1 or more"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str, model_files: ModelFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        export_repository(model_files.qdq, tmp_path / "models", **changes)
    assert not (tmp_path / "models").exists()


def test_labels_of_another_model(model_files: ModelFiles, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("one\n", encoding="utf-8")
    with pytest.raises(InputError, match="names 1 classes, but the model has 7"):
        export_repository(model_files.qdq, tmp_path / "models", labels=path)
