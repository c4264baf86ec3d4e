"""What a trial's model said is taken over for its file, and for nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from calibration.dataloader import DataLoader
from calibration.images import ImageSet
from calibration.transforms import build_pipeline
from quantize import judged as module
from quantize.baseline import Baseline
from quantize.criterion import Criterion
from quantize.judged import JudgedOutputs, content_key
from quantize.judging import Abandonment, AccuracyJudge
from quantize.model import save_model
from quantize.session import make_session, outputs
from quantize.target import Format
from quantize.verify import Verification, verify

COUNT, BATCH = 22, 4
PIPELINE = build_pipeline({"Rescale": None, "Transpose": {"perm": [2, 0, 1]}})


@pytest.fixture
def loader(tmp_path: Path) -> DataLoader:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(4)
    names = tuple(f"{index}.png" for index in range(COUNT))
    for name in names:
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name)
    labels = tuple(index % 7 for index in range(COUNT))
    return DataLoader(ImageSet(folder, names, labels, "test"), PIPELINE, batch_size=BATCH)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each batch had that was run beside the evaluation's own sessions."""
    sizes: list[int] = []

    def noting(session: Any, batch: Any, **settings: Any) -> Any:
        sizes.append(len(batch))
        return outputs(session, batch, **settings)

    monkeypatch.setattr(module, "outputs", noting)
    return sizes


def judged_with(loader: DataLoader, model: onnx.ModelProto) -> JudgedOutputs:
    known = JudgedOutputs(loader)
    judge = AccuracyJudge(loader, Criterion(), threads=2, judged=known)
    judge(model)  # the first model is fp32
    judge(model)
    return known


def verified(model_files: Any, path: Path, loader: DataLoader, known: JudgedOutputs | None) -> Verification:
    files: dict[Format, Path] = {"QDQ": path, "QOperator": model_files.qoperator}
    return verify(model_files.fp32, files, loader, threads=2, latency_rounds=1, judged=known)


def facts_of(verification: Verification) -> list[Any]:
    return [
        (one.facts.counts, one.fidelity, one.top1.outcomes, one.top5.outcomes, one.portability.equality)
        for one in verification.artefacts.values()
    ] + [verification.formats_equality]


def test_a_file_of_the_same_graph_is_run_on_one_batch_again(
    model_files: Any, loader: DataLoader, run: list[int], tmp_path: Path
) -> None:
    model = onnx.load(model_files.qdq)
    known = judged_with(loader, model)
    path = tmp_path / "written.onnx"
    save_model(model, path, {"quantize.made": "just now"})  # metadata changes nothing that is computed
    run.clear()
    found = verified(model_files, path, loader, known)
    # One batch of it again, and all of the other format.
    assert sorted(run) == sorted([BATCH, *[BATCH] * (COUNT // BATCH), COUNT % BATCH])
    assert facts_of(found) == facts_of(verified(model_files, path, loader, None))
    assert found.artefacts["QDQ"].facts.counts.images == COUNT


def other_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    integers = (one for one in made.graph.initializer if one.data_type == onnx.TensorProto.INT8)
    weights = max(integers, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(weights)
    weights.CopyFrom(numpy_helper.from_array(-values, weights.name))
    return made


def test_another_graph_is_run(model_files: Any, loader: DataLoader, tmp_path: Path, run: list[int]) -> None:
    known = judged_with(loader, onnx.load(model_files.qdq))
    path = tmp_path / "other.onnx"
    save_model(other_weights(onnx.load(model_files.qdq)), path, {})
    run.clear()
    found = verified(model_files, path, loader, known)
    assert run == []  # the sessions themselves are given to the evaluation
    assert facts_of(found) == facts_of(verified(model_files, path, loader, None))
    assert found.formats_equality is not None
    assert not found.formats_equality.bit_equal


def test_the_last_model_is_what_is_remembered(model_files: Any, loader: DataLoader) -> None:
    first = onnx.load(model_files.qdq)
    second = other_weights(first)
    known = JudgedOutputs(loader)
    judge = AccuracyJudge(loader, Criterion(), threads=1, judged=known)
    for model in (first, first, second):
        judge(model)
    session = make_session(second, threads=1)
    assert known.twins(content_key(first), session, session) is None
    assert known.twins(content_key(second), session, session) is not None


def test_where_the_other_format_differs_both_are_run(
    model_files: Any, loader: DataLoader, tmp_path: Path, run: list[int]
) -> None:
    known = judged_with(loader, onnx.load(model_files.qdq))
    twin = tmp_path / "twin.onnx"
    save_model(other_weights(onnx.load(model_files.qoperator)), twin, {})
    run.clear()
    files: dict[Format, Path] = {"QDQ": model_files.qdq, "QOperator": twin}
    settings: dict[str, Any] = {"threads": 2, "latency_rounds": 1}
    found = verify(model_files.fp32, files, loader, judged=known, **settings)
    assert sum(run) == BATCH + 2 * COUNT
    assert facts_of(found) == facts_of(verify(model_files.fp32, files, loader, **settings))
    assert found.formats_equality is not None
    assert not found.formats_equality.bit_equal


@pytest.mark.parametrize("kind", ["QDQ", "QOperator"])
def test_one_format_alone_is_run(model_files: Any, loader: DataLoader, run: list[int], kind: Format) -> None:
    known = judged_with(loader, onnx.load(model_files.qdq))
    run.clear()
    path = model_files.qdq if kind == "QDQ" else model_files.qoperator
    found = verify(model_files.fp32, {kind: path}, loader, threads=1, latency_rounds=1, judged=known)
    assert run == []
    assert found.artefacts[kind].facts.counts.images == COUNT


def test_a_trial_on_shuffled_images_is_remembered_in_their_own_order(
    model_files: Any, loader: DataLoader, run: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large sets are judged in a random order, so that a trial may be given up early."""
    monkeypatch.setattr("quantize.judging.LEAST_IMAGES", COUNT)
    known = JudgedOutputs(loader)
    baseline = Baseline(model_files.fp32, loader, workers=1)
    confident = Abandonment(confidence=0.999999, seed=3)
    tolerant = Criterion(tolerance=0.9)
    judge = AccuracyJudge(loader, tolerant, threads=2, baseline=baseline, abandonment=confident, judged=known)
    model = onnx.load(model_files.qdq)
    judge(model)  # fp32, which the baseline knows
    judge(model)
    assert judge.abandoned == {}
    run.clear()
    found = verified(model_files, model_files.qdq, loader, known)
    assert sum(run) == BATCH + COUNT
    assert facts_of(found) == facts_of(verified(model_files, model_files.qdq, loader, None))


def replaced(path: Path) -> None:
    """Another picture under the same name."""
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(path)
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("image", [0, COUNT - 1])
def test_images_that_changed_meanwhile_are_run(
    model_files: Any, loader: DataLoader, image: int, tmp_path: Path
) -> None:
    known = judged_with(loader, onnx.load(model_files.qdq))
    replaced(tmp_path / "images" / f"{image}.png")
    found = verified(model_files, model_files.qdq, loader, known)
    assert facts_of(found) == facts_of(verified(model_files, model_files.qdq, loader, None))


def test_images_that_change_while_they_are_judged_are_not_remembered(
    model_files: Any, loader: DataLoader, tmp_path: Path
) -> None:
    model = onnx.load(model_files.qdq)
    known = JudgedOutputs(loader)
    recording = known.recording(model, make_session(model, threads=1))

    def changing(batch: int) -> Callable[[], Any]:
        def images() -> Any:
            found = loader.load(batch)[0]
            replaced(tmp_path / "images" / f"{batch * BATCH}.png")
            return found

        return images

    assert not known.known(1, recording.logits(1, changing(1)))
    assert known.known(2, recording.logits(2, lambda: loader.load(2)[0]))


def test_outputs_that_do_not_come_out_again_are_not_believed(model_files: Any, loader: DataLoader) -> None:
    model = onnx.load(model_files.qdq)
    known = judged_with(loader, model)
    lying = make_session(other_weights(model), threads=1)
    assert known.twins(content_key(model), lying, make_session(model, threads=1)) is None


def test_another_loaders_images_are_run(model_files: Any, loader: DataLoader) -> None:
    known = judged_with(loader, onnx.load(model_files.qdq))
    part = loader.subset(range(8))
    assert verified(model_files, model_files.qdq, part, known).images == 8
