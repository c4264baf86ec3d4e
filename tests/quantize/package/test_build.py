from __future__ import annotations

import hashlib
import json
import os
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from quantize.errors import EngineError, InputError
from quantize.model import read_signature
from quantize.package import Request, make_package, write_packages
from quantize.package.archive import unpacked
from quantize.package.samples import check_sample
from tests.quantize.conftest import ModelFiles
from tests.quantize.package.conftest import report_about
from tests.quantize.prediction.conftest import config

__all__ = ["config"]  # a fixture


def packaged(model: Path, **changes: Any) -> Any:
    return make_package(Request(model, **changes))


def test_row_and_sentence_are_the_zoos_own_for_the_zoos_own_figures(tuned: Path) -> None:
    """As published: `|MobileNet v2-1.0-int8| [3.5 MB](…) | [3.7 MB](…) | 1.9.0 | 12 | 68.30 | 88.44 |`."""
    made = packaged(tuned, title="MobileNet v2-1.0-int8")
    assert made.row == (
        "|MobileNet v2-1.0-int8| [0.0 MB](model/net-12-int8.onnx) | [0.0 MB](model/net-12-int8.tar.gz) "
        "| 1.9.0 | 13 | 68.30 | 88.44 |"
    )
    assert made.sentence.startswith(
        "> Compared with the fp32 MobileNet v2-1.0, int8 MobileNet v2-1.0's Top-1 accuracy decline ratio is "
        "1.70%, Top-5 accuracy decline ratio is 0.92% and performance improvement is 1.05x.\n"
    )
    assert r"A CPU \| with &lt;bars&gt;" in made.sentence
    assert "1.21% to 2.18%" in made.sentence


def test_the_archive_has_the_zoos_layout_and_the_manifest_its_hashes(tuned: Path) -> None:
    made = packaged(tuned)
    files = unpacked(made.archive)
    assert set(files) == {
        "net-12-int8/net-12-int8.onnx",
        "net-12-int8/test_data_set_0/input_0.pb",
        "net-12-int8/test_data_set_0/output_0.pb",
    }
    assert files["net-12-int8/net-12-int8.onnx"] == tuned.read_bytes()
    folder = "validated/vision/classification/net/model"
    metadata = made.entry["metadata"]
    assert made.entry["model_path"] == f"{folder}/net-12-int8.onnx"
    assert made.entry["opset_version"] == 13
    assert metadata["model_sha"] == hashlib.sha256(tuned.read_bytes()).hexdigest()
    assert metadata["model_bytes"] == tuned.stat().st_size
    assert metadata["model_with_data_path"] == f"{folder}/net-12-int8.tar.gz"
    assert metadata["model_with_data_sha"] == hashlib.sha256(made.archive).hexdigest()
    assert metadata["model_with_data_bytes"] == len(made.archive)
    assert metadata["tags"] == ["vision", "classification", "net"]
    assert metadata["io_ports"]["inputs"] == [
        {"name": "image", "shape": ["n", 3, 8, 8], "type": "tensor(float)"}
    ]
    (features,) = metadata["extra_ports"]["features"]
    assert features["shape"] == [1, 8]
    assert features["type"] == "tensor(uint8)"


def test_the_same_bytes_twice(tuned: Path) -> None:
    assert packaged(tuned) == packaged(tuned)


def test_onnx_s_own_backend_runner_accepts_it(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loader reads the extracted package, its runner compares ONNX Runtime's output with the packaged."""
    from onnx.backend.test import loader, runner
    from onnxruntime.backend.backend import OnnxRuntimeBackend as backend

    # Otherwise it skips every model with an operator of ONNX Runtime's own, as QGemm is.
    monkeypatch.setattr(backend, "allowReleasedOpsetsOnly", False)
    made = packaged(tuned)
    for name, content in unpacked(made.archive).items():
        # The loader wants folders called test_…, and the model in them called model.onnx.
        inside = Path(*Path(name).parts[1:])
        target = tmp_path / "cases" / "real" / "test_net" / inside
        target = target.with_name("model.onnx") if target.suffix == ".onnx" else target
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def load(kind: str) -> list[Any]:
        return list(loader.load_model_tests(str(tmp_path / "cases"), kind)) if kind == "real" else []

    monkeypatch.setattr(runner, "load_model_tests", load)
    suite = runner.Runner(backend, __name__).test_suite
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun == 2  # one for the CPU, and one for CUDA, skipped where there is none
    assert result.failures == result.errors == []
    assert len(result.skipped) <= 1

    path = tmp_path / "cases/real/test_net/test_data_set_0/output_0.pb"
    scores = numpy_helper.to_array(onnx.load_tensor(path)) + np.float32(1)
    path.write_bytes(numpy_helper.from_array(scores).SerializeToString())
    result = unittest.TestResult()
    runner.Runner(backend, __name__).test_suite.run(result)
    assert len(result.failures) == 1  # it does compare


def test_a_photograph_as_sample(tuned: Path, config: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(photo)
    made = packaged(tuned, image=photo, config=config)
    packed = unpacked(made.archive)["net-12-int8/test_data_set_0/input_0.pb"]
    image = numpy_helper.to_array(onnx.TensorProto.FromString(packed))
    assert image.shape == (1, 3, 8, 8)
    assert (image == 2).all()  # (255 / 255 - 0.5) / 0.25
    assert "the photograph photo.png" in made.card


def test_a_package_that_does_not_reproduce_its_output(tuned: Path) -> None:
    files = unpacked(packaged(tuned).archive)
    name = "net-12-int8/test_data_set_0/output_0.pb"
    scores = numpy_helper.to_array(onnx.TensorProto.FromString(files[name])).copy()
    scores[0, 0] = np.nextafter(scores[0, 0], np.float32(np.inf))
    files[name] = numpy_helper.from_array(scores).SerializeToString()
    with pytest.raises(EngineError, match="does not reproduce"):
        check_sample(files, "net-12-int8", read_signature(onnx.load(tuned), tuned))


def test_the_card_says_what_was_measured_and_nothing_of_the_machine(tuned: Path) -> None:
    card = packaged(tuned).card
    assert "| top-1 | 69.48% | 68.30% |" in card
    assert "1.70% (1.21% to 2.18%)" in card
    assert "accuracy was measured on none of them" in card
    assert "--input_model=net-12.onnx" in card
    assert "home-of-someone" not in card


def test_names_in_texts_cannot_be_markup(tuned: Path) -> None:
    made = packaged(tuned, title="<script>|[x](y)\x1b")
    for text in (made.row, made.sentence, made.card):
        assert "<script>" not in text
        assert "[x](y)" not in text
        assert "\x1b" not in text
    assert made.row.replace(r"\|", "").count("|") == 8


def test_files(tuned: Path, tmp_path: Path, model_files: ModelFiles) -> None:
    qdq = tmp_path / "net-12-qdq.onnx"
    qdq.write_bytes(model_files.qdq.read_bytes())
    report = report_about(qdq, tmp_path / "net-12.onnx", kind="QDQ")
    (tmp_path / "net-12-qdq-report.json").write_text(json.dumps(report), encoding="utf-8")
    made = [packaged(tuned), packaged(qdq)]
    folder = tmp_path / "zoo"
    written = write_packages(made, folder)
    assert sorted(path.relative_to(folder).as_posix() for path in written) == sorted(
        [
            *(f"model/net-12-{kind}.{suffix}" for kind in ("int8", "qdq") for suffix in ("onnx", "tar.gz")),
            *(f"net-12-{kind}-card.md" for kind in ("int8", "qdq")),
            "README-rows.md",
            "ONNX_HUB_MANIFEST.json",
        ]
    )
    assert all(path.is_file() for path in written)
    manifest = json.loads((folder / "ONNX_HUB_MANIFEST.json").read_text(encoding="utf-8"))
    assert [entry["model"] for entry in manifest] == ["net-12-int8", "net-12-qdq"]
    rows = (folder / "README-rows.md").read_text(encoding="utf-8")
    assert made[0].row in rows
    assert "qdq net-12's Top-1" in rows
    assert write_packages(made, folder) == written  # again: the same files, the same manifest
    assert json.loads((folder / "ONNX_HUB_MANIFEST.json").read_text(encoding="utf-8")) == manifest
    with pytest.raises(InputError, match="net-12-int8: two models have this name"):
        write_packages([made[0], made[0]], folder)


def test_only_what_was_measured_is_packaged(tuned: Path) -> None:
    tuned.write_bytes(tuned.read_bytes() + b"")
    model = onnx.load(tuned)
    model.doc_string = "changed afterwards"
    onnx.save(model, tuned)
    with pytest.raises(InputError, match="no report beside it is about this file"):
        packaged(tuned)
    with pytest.raises(InputError, match="is about other files"):
        packaged(tuned, report=tuned.parent / "report.json")


def test_other_files_of_a_like_name_do_not_matter(tuned: Path) -> None:
    (tuned.parent / "a-report.json").write_text("{", encoding="utf-8")
    (tuned.parent / "b-report.json").write_text("{}", encoding="utf-8")
    assert packaged(tuned).name == "net-12-int8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a report"),
        ('{"models": {"int8": {"QDQ": {}}}}', "is not a report"),
        ('{"models": NaN}', "is not JSON"),
    ],
)
def test_what_is_no_report(content: str, message: str, tuned: Path) -> None:
    path = tuned.parent / "report.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        packaged(tuned, report=path)


@pytest.mark.parametrize("version", ["2.0", "9.9", "", None])
def test_a_report_of_another_schema_is_no_evidence(version: object, tuned: Path) -> None:
    """Its fields may mean something else."""
    path = tuned.parent / "report.json"
    report = report_about(tuned, tuned.with_name("net-12.onnx")) | {"schema_version": version}
    path.write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(InputError, match="of another version"):
        packaged(tuned, report=path)


def test_a_model_that_failed_is_packaged_only_on_request(tuned: Path) -> None:
    report = report_about(tuned, tuned.with_name("net-12.onnx"), passed=False)
    (tuned.parent / "report.json").write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(InputError, match=r"did not pass \(FAIL: too much lost\)"):
        packaged(tuned)
    assert "FAIL: too much lost" in packaged(tuned, allow_failed=True).card


@pytest.mark.parametrize("folder", ["../up", "/abs", "a b", "a//b", "a/../b"])
def test_folders_of_the_zoo(folder: str, tuned: Path) -> None:
    with pytest.raises(InputError, match="--zoo_folder"):
        packaged(tuned, zoo_folder=folder)


def test_a_file_name_that_cannot_be_a_link(tuned: Path) -> None:
    odd = tuned.with_name("net](x).onnx")
    odd.write_bytes(tuned.read_bytes())
    with pytest.raises(InputError, match="becomes part of paths"):
        packaged(odd)


def test_a_photograph_of_another_size(tuned: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((9, 8, 3), 255, np.uint8)).save(photo)
    config = tmp_path / "open.yaml"
    loader = {"dataset": {"ImagenetRaw": {"data_path": "x"}}, "transform": {"Transpose": {"perm": [2, 0, 1]}}}
    config.write_text(json.dumps({"evaluation": {"accuracy": {"dataloader": loader}}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"photo\.png: comes out of the transforms as 3x9x8, .* takes 3x8x8"):
        packaged(tuned, image=photo, config=config)


def test_a_title_of_nothing(tuned: Path) -> None:
    with pytest.raises(InputError, match="--title is empty"):
        packaged(tuned, title=" ")


def test_folders_with_equals_signs_are_no_part_of_the_card(tuned: Path) -> None:
    report = report_about(tuned, tuned.with_name("net-12.onnx"))
    report["run"]["command"] = ["tune", "--config=/home-of-someone/run=1/c.yaml", "/home-of-someone/x=2/y"]
    (tuned.parent / "report.json").write_text(json.dumps(report), encoding="utf-8")
    card = packaged(tuned).card
    assert "tune --config=c.yaml y" in card
    assert "home-of-someone" not in card


def test_what_is_measured_of_is_what_is_packaged(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while it is packaged has no report."""
    measured = tuned.read_bytes()
    other = onnx.load(tuned)
    other.doc_string = "changed meanwhile"
    reads = iter([other.SerializeToString(), measured, measured])
    plain = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: next(reads) if path == tuned else plain(path))
    with pytest.raises(InputError, match="no report beside it is about this file"):
        packaged(tuned)


def test_a_pipe_is_no_report(tuned: Path) -> None:
    pipe = tuned.parent / "a-report.json"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"a-report\.json: is a pipe, and only files are read"):
        packaged(tuned, report=pipe)
    assert packaged(tuned).name == "net-12-int8"  # nobody asked for it
