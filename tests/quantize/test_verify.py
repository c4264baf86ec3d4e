"""The gate: files from disk, one pass, everything measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from quantize import verify as module
from quantize.errors import InputError
from quantize.kernels import Coverage
from quantize.portability import PairBound, check_pairs
from quantize.session import make_session
from quantize.statistics import PairedOutcomes
from quantize.target import QNN, TENSORRT, VNNI
from quantize.verify import Verification, accuracy, verify
from quantize.written import size_bytes
from tests.quantize.models import zoo_case


@pytest.fixture(scope="module")
def verification(model_files: Any) -> Verification:
    return verify(
        model_files.fp32,
        {"QOperator": model_files.qoperator, "QDQ": model_files.qdq},
        list(model_files.batches()),
        threads=1,
        latency_rounds=2,
        latency_warmup=0,
    )


def test_every_file_is_described(verification: Verification, model_files: Any) -> None:
    facts = [verification.fp32, *(artefact.facts for artefact in verification.artefacts.values())]
    for fact, path in zip(facts, (model_files.fp32, model_files.qoperator, model_files.qdq), strict=True):
        assert fact.path == path
        assert fact.size_bytes == path.stat().st_size
        assert fact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert fact.latency.calls == 2
        assert fact.coverage.weighted == 3
    assert (verification.images, verification.classes, verification.latency_rounds) == (24, 7, 2)


def test_declines_belong_to_the_counts(verification: Verification) -> None:
    for artefact in verification.artefacts.values():
        for metric in ("top1", "top5"):
            decline = artefact.decline(metric)
            baseline, value = accuracy(verification.fp32, metric), accuracy(artefact.facts, metric)
            assert decline.absolute.estimate == pytest.approx(baseline - value)
            assert decline.relative.estimate == pytest.approx(1 - value / baseline)
            assert decline.outcomes.images == 24
        assert artefact.fidelity.images == 24
        assert artefact.speed_up > 0


def test_formats_are_one_model(verification: Verification) -> None:
    assert verification.formats_equality is not None
    assert verification.formats_equality.bit_equal
    assert verification.artefacts["QDQ"].top1 == verification.artefacts["QOperator"].top1
    assert verification.warnings == ()


def test_images_are_read_once_and_not_kept(model_files: Any) -> None:
    passes = []

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            passes.append(1)
            return model_files.batches()

    found = verify(model_files.fp32, {"QDQ": model_files.qdq}, Loader(), threads=1, latency_rounds=1)
    assert passes == [1]
    assert found.formats_equality is None


def test_a_model_against_itself_loses_nothing_and_formats_that_differ_are_told(model_files: Any) -> None:
    found = verify(
        model_files.fp32,
        {"QOperator": model_files.fp32, "QDQ": model_files.qdq},
        model_files.batches(),
        threads=1,
        latency_rounds=1,
    )
    itself = found.artefacts["QOperator"]
    assert itself.top1.outcomes == PairedOutcomes(both=18, lost=0, won=0, neither=6)
    assert (itself.fidelity.agreement, itself.fidelity.kl) == (1.0, 0.0)
    assert any("QOperator and QDQ differ on" in warning for warning in found.warnings)


def test_labels_that_do_not_fit_are_suspected(model_files: Any) -> None:
    wrong = [(images, (labels * 0) + 6) for images, labels in model_files.batches()]
    found = verify(model_files.fp32, {"QDQ": model_files.qdq}, wrong, threads=1, latency_rounds=1)
    assert any("hardly better than guessing among 7 classes" in warning for warning in found.warnings)


def test_many_classes_are_suspected_below_five_percent(make_classifier: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_classifier(classes=200), path)
    images = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    batches = [(images, np.full(40, 199))]
    found = verify(path, {"QDQ": path}, batches, threads=1, latency_rounds=1)
    assert any("LabelShift" in warning for warning in found.warnings)


def test_ties_are_told(make_classifier: Any, model_files: Any, tmp_path: Path) -> None:
    model = make_classifier()
    for tensor in model.graph.initializer:
        if tensor.name in ("w3", "b3"):
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name)
            )
    path = tmp_path / "constant.onnx"
    onnx.save(model, path)
    found = verify(model_files.fp32, {"QDQ": path}, model_files.batches(), threads=1, latency_rounds=1)
    assert "several classes share first place, of 24 images: QDQ 24" in found.warnings[0]


def test_nothing_to_verify_is_refused(model_files: Any) -> None:
    with pytest.raises(InputError, match="no int8 model was given"):
        verify(model_files.fp32, {}, model_files.batches(), threads=1)
    with pytest.raises(InputError, match="0 were given"):
        verify(model_files.fp32, {"QDQ": model_files.qdq}, [], threads=1)


def test_external_data_belongs_to_the_size(make_classifier: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_classifier(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert size_bytes(path) == path.stat().st_size + (tmp_path / "m.data").stat().st_size


def test_the_real_model_scores_as_it_should(shared_dir: Path) -> None:
    from PIL import Image

    lines = (shared_dir / "imagenet-sample" / "val.txt").read_text(encoding="utf-8").split("\n")[:20]
    names, labels = zip(*(line.split() for line in lines), strict=True)

    def image(name: str) -> npt.NDArray[np.float32]:
        # The zoo's preprocessing: shorter side 256, bilinear, centre crop 224, ImageNet mean and deviation.
        with Image.open(shared_dir / "imagenet-sample" / "images" / name) as opened:
            picture = opened.convert("RGB")
        scale = 256 / min(picture.size)
        width, height = (round(side * scale) for side in picture.size)
        left, top = (width - 224) // 2, (height - 224) // 2
        cropped = picture.resize((width, height), Image.Resampling.BILINEAR).crop(
            (left, top, left + 224, top + 224)
        )
        pixels = (np.asarray(cropped) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        return pixels.transpose(2, 0, 1).astype(np.float32)

    path = shared_dir / "models" / "mobilenetv2-12.onnx"
    batch = (np.stack([image(name) for name in names]), np.array([int(label) for label in labels]))
    found = verify(path, {"QDQ": path}, [batch], threads=2, latency_rounds=1, latency_warmup=0)
    # 71.9 % on all validation images; 20 at that rate are at least 9 in all but 1 of 100 draws.
    assert found.fp32.counts.top1_correct >= 9
    assert found.classes == 1000
    assert found.artefacts["QDQ"].fidelity.agreement == 1.0
    assert found.warnings == ()


def test_portability_is_proven_for_both_formats(verification: Verification) -> None:
    for artefact in verification.artefacts.values():
        assert artefact.portability.equality.images == 24
        assert artefact.portability.bound == PairBound(3, 0)  # two dense convolutions and the classifier
        assert artefact.portability.exact


def test_the_comparison_is_capped(model_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPARED_IMAGES", 7)
    found = verify(
        model_files.fp32, {"QDQ": model_files.qdq}, model_files.batches(), threads=1, latency_rounds=1
    )
    assert found.artefacts["QDQ"].portability.equality.images == 7
    assert found.images == 24


def test_logits_that_depend_on_the_cpu_are_found(model_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 stands in for the exact kernels: this CPU may have none that saturate."""

    def others(files: Any) -> Any:
        return {kind: make_session(model_files.fp32, threads=1) for kind in files if kind != "fp32"}

    monkeypatch.setattr(module, "_exact_sessions", others)
    found = verify(
        model_files.fp32, {"QDQ": model_files.qdq}, model_files.batches(), threads=1, latency_rounds=1
    )
    portability = found.artefacts["QDQ"].portability
    assert not portability.equality.bit_equal
    assert portability.bound.holds
    assert not portability.exact


def test_one_kernel_that_differs_counts_against_both_formats(
    model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formats are equal to each other, and exact kernels are run for each on half of the batches."""
    true_sessions = module._exact_sessions

    def one_other(files: Any) -> Any:
        return {**true_sessions(files), "QDQ": make_session(model_files.fp32, threads=1)}

    monkeypatch.setattr(module, "_exact_sessions", one_other)
    files = {"QOperator": model_files.qoperator, "QDQ": model_files.qdq}
    found = verify(model_files.fp32, files, model_files.batches(6), threads=1, latency_rounds=1)
    assert found.formats_equality is not None and found.formats_equality.bit_equal
    for artefact in found.artefacts.values():
        assert (artefact.portability.equality.images, artefact.portability.exact) == (24, False)


def test_weights_that_can_saturate_are_found(model_files: Any, tmp_path: Path) -> None:
    model = onnx.load(model_files.qoperator)
    (weights, *_) = (
        t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4
    )
    values = np.full(tuple(weights.dims), 127, np.int8)
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    path = tmp_path / "bad.onnx"
    onnx.save(model, path)
    found = verify(model_files.fp32, {"QOperator": path}, model_files.batches(), threads=1, latency_rounds=1)
    assert len(found.artefacts["QOperator"].portability.bound.unbounded) == 1


def test_weights_that_onnxruntime_quantizes_by_itself_are_found(tmp_path: Path) -> None:
    """Float weights between Q and DQ become 8-bit integers when the session is made."""
    case = zoo_case("inverted_residual")
    model = case.qdq()
    dense = [op for op in case.inventory.quantizable if op.op_type == "Conv" and not op.depthwise][-1]
    (original,) = (node for node in case.prepared.graph.node if node.name == dense.name)
    (written,) = (node for node in model.graph.node if node.name == dense.name)
    written.input[1:] = original.input[1:]
    kept = set(original.input[1:])
    model.graph.initializer.extend(t for t in case.prepared.graph.initializer if t.name in kept)
    path, fp32 = tmp_path / "m.onnx", tmp_path / "fp32.onnx"
    onnx.save(model, path)
    onnx.save(case.prepared, fp32)
    assert check_pairs(model).holds  # the file says nothing of it
    batches = [(case.images, np.zeros(len(case.images), np.int64))]
    found = verify(fp32, {"QDQ": path}, batches, threads=1, latency_rounds=1).artefacts["QDQ"]
    assert found.facts.coverage.float_weighted_operators == ()
    assert found.portability.bound.unbounded == (dense.name,)


def test_a_target_elsewhere_is_judged_by_what_the_file_declares(model_files: Any) -> None:
    for target in (TENSORRT, QNN, VNNI):
        found = verify(
            model_files.fp32,
            {"QDQ": model_files.qdq},
            model_files.batches(),
            threads=1,
            latency_rounds=1,
            target=target,
        )
        facts = found.artefacts["QDQ"].facts
        assert (facts.declared is None) is target.on_cpu
        assert found.fp32.declared is None
        assert facts.judged_coverage.integer_weighted == 3
        assert facts.coverage.integer["QLinearConv"] == 2
        assert found.target is target
        assert any("only emulates" in warning for warning in found.warnings) is not target.on_cpu


def test_profiles_are_taken_on_request_only(verification: Verification, model_files: Any) -> None:
    assert verification.fp32.profile_ms is None
    found = verify(
        model_files.fp32,
        {"QDQ": model_files.qdq},
        model_files.batches(),
        threads=1,
        latency_rounds=1,
        profile=True,
    )
    profile = found.artefacts["QDQ"].facts.profile_ms
    assert profile is not None
    assert {"QLinearConv", "QuantizeLinear"} <= profile.keys()
    assert found.fp32.profile_ms is not None
    assert "QLinearConv" not in found.fp32.profile_ms


def test_judged_coverage_is_that_of_the_cpu_unless_declared(verification: Verification) -> None:
    assert verification.fp32.judged_coverage is verification.fp32.coverage
    assert isinstance(verification.fp32.judged_coverage, Coverage)
