"""Many models, one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantize.errors import EngineError, InputError
from quantize.evaluate import evaluate
from quantize.metrics import Counts, Equality, Fidelity
from quantize.session import make_session, outputs


def sessions(files: Any) -> dict[str, Any]:
    return {
        "fp32": make_session(files.fp32, threads=1),
        "QOperator": make_session(files.qoperator, threads=1),
        "QDQ": make_session(files.qdq, threads=1),
    }


def test_one_pass_equals_separate_computation(model_files: Any) -> None:
    made = sessions(model_files)
    found = evaluate(made, model_files.batches(), reference="fp32", pairs=[("QOperator", "QDQ")])
    logits = {name: outputs(session, model_files.images) for name, session in made.items()}
    for name, evaluation in found.items():
        assert evaluation.counts == Counts.from_logits(logits[name], model_files.labels)
        assert evaluation.top1_hits.tolist() == (logits[name].argmax(1) == model_files.labels).tolist()
        assert evaluation.top5_hits.sum() == evaluation.counts.top5_correct
    assert found["fp32"].fidelity is None
    assert found["fp32"].counts.top1_correct == 18  # every fourth of 24 labels is wrong on purpose
    whole = Fidelity.from_logits(logits["fp32"], logits["QDQ"])
    assert found["QDQ"].fidelity is not None
    assert found["QDQ"].fidelity.agree == whole.agree
    # float32 kernels may sum in another order for another batch size
    assert found["QDQ"].fidelity.kl == pytest.approx(whole.kl, rel=1e-3)


def test_the_size_of_batches_does_not_matter(model_files: Any) -> None:
    made = {"QDQ": make_session(model_files.qdq, threads=1)}
    hits = [evaluate(made, model_files.batches(size))["QDQ"].top1_hits for size in (1, 7, 24)]
    assert all(np.array_equal(hits[0], other) for other in hits[1:])


def test_equal_formats_are_bit_equal_and_others_are_not(model_files: Any) -> None:
    pairs = [("QOperator", "QDQ"), ("fp32", "QDQ")]
    found = evaluate(sessions(model_files), model_files.batches(), pairs=pairs)
    assert found["QDQ"].equality["QOperator"] == Equality(24, 24, 0.0)
    assert found["QOperator"].equality == {"QDQ": Equality(24, 24, 0.0)}
    assert not found["fp32"].equality["QDQ"].bit_equal
    assert found["fp32"].equality["QDQ"].max_abs_difference > 0
    assert found["QDQ"].fidelity is None  # no reference was named


def test_no_images_and_unknown_names_are_refused(model_files: Any) -> None:
    with pytest.raises(InputError, match="0 were given"):
        evaluate(sessions(model_files), [])
    with pytest.raises(InputError, match="no model named 'int8'; given are fp32, QOperator, QDQ"):
        evaluate(sessions(model_files), model_files.batches(), reference="int8")
    with pytest.raises(InputError, match="no model named 'x'"):
        evaluate(sessions(model_files), model_files.batches(), pairs=[("fp32", "x")])


def test_probabilities_give_the_same_kl_as_their_logits(make_classifier: Any, model_files: Any) -> None:
    def fidelity(softmax: bool) -> Fidelity:
        # A second, slightly different model of the same kind: half precision.
        made = {
            "fp32": make_session(make_classifier(softmax=softmax), threads=1),
            "fp16": make_session(make_classifier(softmax=softmax, float16=True), threads=1),
        }
        found = evaluate(made, model_files.batches(), reference="fp32", probabilities=softmax)[
            "fp16"
        ].fidelity
        assert found is not None
        return found

    # Half-precision probabilities are rounded to 11 bits, 5e-4; the divergences themselves are of its square.
    assert fidelity(True).kl == pytest.approx(fidelity(False).kl, abs=2e-6)


def test_nan_names_the_model(model_files: Any) -> None:
    images = model_files.images.copy()
    images[3] = np.nan
    with pytest.raises(EngineError, match="fp32: NaN"):
        evaluate({"fp32": make_session(model_files.fp32, threads=1)}, [(images, model_files.labels)])


def test_witnesses_see_the_first_images_only(model_files: Any) -> None:
    made = sessions(model_files)
    same, other = make_session(model_files.qdq, threads=1), made["fp32"]
    found = evaluate(
        made, model_files.batches(5), witnesses={"QDQ": same, "QOperator": other}, witness_images=7
    )
    assert found["QDQ"].witness == Equality(7, 7, 0.0)  # a batch of five, and two of the next
    assert found["fp32"].witness is None
    witness = found["QOperator"].witness
    assert witness is not None
    assert (witness.images, witness.bit_equal) == (7, False)
    logits = [outputs(made[name], model_files.images[:5]) for name in ("QOperator", "fp32")]
    assert witness.max_abs_difference >= np.abs(logits[0] - logits[1]).max() * (1 - 1e-6)


def test_witnesses_that_take_turns_see_every_batch_once(model_files: Any) -> None:
    made = sessions(model_files)
    other = made["fp32"]
    found = evaluate(
        made,
        model_files.batches(5),
        witnesses={"QDQ": make_session(model_files.qdq, threads=1), "QOperator": other},
        witness_images=24,
        in_turn=True,
    )
    # Five batches, of 5, 5, 5, 5 and 4 images.
    assert found["QDQ"].witness == Equality(14, 14, 0.0)
    witness = found["QOperator"].witness
    assert witness is not None and (witness.images, witness.bit_equal) == (10, False)


def test_more_witness_images_than_there_are_is_all_of_them(model_files: Any) -> None:
    made = {"QDQ": make_session(model_files.qdq, threads=1)}
    found = evaluate(made, model_files.batches(), witnesses=made, witness_images=500)
    assert found["QDQ"].witness == Equality(24, 24, 0.0)
    with pytest.raises(InputError, match="no model named 'other'"):
        evaluate(made, model_files.batches(), witnesses={"other": made["QDQ"]}, witness_images=1)


class Numbered:
    """Batches that any worker can make; notes which ones were made."""

    def __init__(self, files: Any, size: int = 4) -> None:
        self._all = list(files.batches(size))
        self.made: list[int] = []

    def __len__(self) -> int:
        return len(self._all)

    def load(self, batch: int, scratch: Any = None) -> Any:
        self.made.append(batch)
        images, labels = self._all[batch]
        if scratch is None:
            return images, labels
        memory = scratch.array(images.shape)  # as a dataloader does: the next batch will overwrite it
        memory[:] = images
        return memory, labels

    def labels(self, batch: int) -> Any:
        return self._all[batch][1]

    def shown(self, passed: Any, image_count: Any, description: Any = None) -> Any:
        for step in passed:
            assert image_count(step) in (4, 24 % 4 or 4)
            yield step


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_nothing(model_files: Any, workers: int) -> None:
    made, pairs = sessions(model_files), [("QOperator", "QDQ")]
    plain = evaluate(made, model_files.batches(4), reference="fp32", pairs=pairs)
    for batches in (model_files.batches(4), Numbered(model_files)):
        found = evaluate(made, batches, reference="fp32", pairs=pairs, workers=workers)
        for name, one in plain.items():
            assert found[name].counts == one.counts
            assert found[name].fidelity == one.fidelity  # to the last bit: merged in the images' order
            assert found[name].equality == one.equality
            assert found[name].top5_hits.tolist() == one.top5_hits.tolist()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_watch_ends_the_pass(model_files: Any, workers: int) -> None:
    seen: list[int] = []

    def enough(outcomes: Any) -> bool:
        seen.append(int(outcomes["QDQ"].top1.sum()))
        return len(seen) == 2

    batches = Numbered(model_files)
    made = {"QDQ": make_session(model_files.qdq, threads=1)}
    found = evaluate(made, batches, workers=workers, watch=enough)["QDQ"]
    assert found.counts.images == 8
    assert found.counts.top1_correct == sum(seen)
    assert len(batches.made) < len(batches) or workers > 2


def test_a_remembered_model_needs_no_images(model_files: Any) -> None:
    session = make_session(model_files.fp32, threads=1)
    known = [outputs(session, images) for images, _ in model_files.batches(4)]

    class Known:
        def logits(self, batch: int, images: Any) -> Any:
            return known[batch]

    batches = Numbered(model_files)
    found = evaluate({"fp32": Known()}, batches, workers=2)["fp32"]
    assert batches.made == []
    assert found.counts == evaluate({"fp32": session}, model_files.batches(4))["fp32"].counts
